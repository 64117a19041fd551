"""What a student costs, and which groups are worth their cost: those that none beats at no more cost."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.compare.compare import Group, Matched
from service.compare.schemas import CostMetric, CostsOut, Front, FrontPoint, GroupCost, Latency
from service.models import Attempt, Series
from service.results.facts import facts_of

_MEASURED = ("parameters", "gflops", "latency_ms")


@dataclass(frozen=True)
class RunCost:
    """The costs of one run; None where they were not measured."""

    parameters: float | None = None
    gflops: float | None = None
    latency_ms: float | None = None
    device: str | None = None
    hours: float | None = None
    gpu_hours: float | None = None


def read_costs(session: Session, job_ids: Sequence[str]) -> dict[str, RunCost]:
    """The costs of jobs by id."""
    measured: dict[str, dict[str, float]] = defaultdict(dict)
    series = select(Series.job_id, Series.key, Series.last_value)
    for job_id, key, value in session.execute(series.where(Series.job_id.in_(job_ids), Series.key.in_(_MEASURED))):
        measured[job_id][key] = value
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)  # hours, GPUs
    attempts = select(Attempt.job_id, Attempt.started_at, Attempt.ended_at, Attempt.gpus)
    for job_id, started, ended, gpus in session.execute(attempts.where(Attempt.job_id.in_(job_ids))):
        if started is not None and ended is not None:
            times[job_id].append(((ended - started) / 3600, gpus))
    devices = _devices(session, job_ids)
    return {
        job_id: RunCost(
            **measured[job_id],
            device=devices.get(job_id),
            hours=sum(hours for hours, _ in times[job_id]) if times[job_id] else None,
            gpu_hours=sum(hours * gpus for hours, gpus in times[job_id]) if times[job_id] else None,
        )
        for job_id in job_ids
    }


def _devices(session: Session, job_ids: Sequence[str]) -> dict[str, str]:
    """Where a run's last attempt was, and so its latency measured. Two CPUs of one name are two devices."""
    out = {}
    for job_id, values in facts_of(session, job_ids).items():
        device, host = values.get("device"), values.get("host")
        if device is not None:
            out[job_id] = f"CPU of {host}" if device == "cpu" and host else device
    return out


def build_costs(matched: Matched, costs: Mapping[str, RunCost]) -> CostsOut:
    groups = [_group(group, [costs[run.job.id] for run in group.runs]) for group in matched.groups]
    fronts = [front for protocol in _in_order(one.protocol for one in groups) for front in _fronts(protocol, groups)]
    return CostsOut(groups=groups, fronts=fronts, warnings=matched.warnings)


def _group(group: Group, costs: Sequence[RunCost]) -> GroupCost:
    summary = group.summary
    by_device: dict[str, list[float]] = defaultdict(list)
    for cost in costs:
        if cost.latency_ms is not None:
            by_device[cost.device or "a device that was not told"].append(cost.latency_ms)
    return GroupCost(
        role=group.role,
        label=group.label,
        protocol=group.protocol,
        n=summary.n,
        mean=summary.mean,
        low=summary.interval[0] if summary.interval is not None else None,
        high=summary.interval[1] if summary.interval is not None else None,
        parameters=_mean(cost.parameters for cost in costs),
        gflops=_mean(cost.gflops for cost in costs),
        latencies=[
            Latency(device=device, milliseconds=statistics.median(values), n=len(values))
            for device, values in sorted(by_device.items())
        ],
        hours=_mean(cost.hours for cost in costs),
        gpu_hours=_mean(cost.gpu_hours for cost in costs),
    )


def _fronts(protocol: str, groups: Sequence[GroupCost]) -> Iterable[Front]:
    mine = [group for group in groups if group.protocol == protocol]
    plain: list[CostMetric] = ["parameters", "gflops"]
    for metric in plain:
        yield from _front(metric, None, protocol, [(group, getattr(group, metric)) for group in mine])
    for device in _in_order(latency.device for group in mine for latency in group.latencies):
        there = [(group, one.milliseconds) for group in mine for one in group.latencies if one.device == device]
        yield from _front("latency_ms", device, protocol, there)
    used: CostMetric = "gpu_hours" if any(group.gpu_hours for group in mine) else "hours"
    yield from _front(used, None, protocol, [(group, getattr(group, used)) for group in mine])


def _front(
    metric: CostMetric, device: str | None, protocol: str, found: Iterable[tuple[GroupCost, float | None]]
) -> Iterable[Front]:
    """The front of these groups, if there is anything to choose between."""
    known = [(group, cost) for group, cost in found if cost is not None and group.mean is not None]
    known.sort(key=lambda one: (one[1], -(one[0].mean or 0.0)))
    points, best = [], float("-inf")
    for group, cost in known:
        mean = group.mean or 0.0
        first = mean > best
        best = max(best, mean)
        points.append(
            FrontPoint(
                label=group.label, role=group.role, cost=cost, mean=mean, low=group.low, high=group.high, front=first
            )
        )
    if len(points) > 1:
        yield Front(metric=metric, device=device, protocol=protocol, points=points)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _in_order(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
