"""Rows of the database as plain dictionaries: jobs as they would lie there if they had been trained.

Numbers are drawn such that pages have something to tell: methods differ by as much as they do in practice, seeds
scatter, some runs fail. Whoever changes them changes what screenshots show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd.spec import JobSpec, parse_spec
from service.jobs.describe import columns
from service.models import GENERATED as PROJECT
from service.results.metrics import lower_is_better

TAG = "generated"
CLASSES = ("bicycle", "bus", "car", "motorcycle", "person", "truck")
METHODS = {"bckd": 2.4, "ld": 1.7, "crosskd": 2.0, "pkd": 1.2, "fgd": 0.4, "fitnet": 0.1}  # AP that each wins
PROTOCOL = "generated-protocol"
HOST = "generated-host"
DEVICE = "generated GPU"
TEACHER = {"detector": "gfl", "backbone": "resnet50"}
STUDENTS = (
    {"detector": "gfl", "backbone": "resnet18"},
    {"detector": "atss", "backbone": "resnet18"},
    {"detector": "fcos", "backbone": "mobilenet_v3_large"},
)
COSTS = {
    "resnet50": (32.2e6, 204.0, 21.0),
    "resnet18": (19.1e6, 155.0, 14.0),
    "mobilenet_v3_large": (10.9e6, 94.0, 11.0),
}
BEGIN = 1.78e9  # Unix seconds of the first job
STEPS = 12_000


@dataclass
class Rows:
    """What is to be written, by table. `points` are (series id, steps, values, start, seconds a step)."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    tags: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    series: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    points: list[tuple[int, NDArray[np.int64], NDArray[np.float64], float, float]] = field(default_factory=list)


class Maker:
    """Makes jobs one after another, with ids that count up. The same seed makes the same rows."""

    def __init__(self, points: int, seed: int = 0):
        self.rows, self.draw = Rows(), np.random.default_rng(seed)
        self._points, self._jobs, self._series = points, 0, 0

    def take(self) -> Rows:
        """What was made since the last time."""
        rows, self.rows = self.rows, Rows()
        return rows

    def job(
        self,
        spec: Mapping[str, Any],
        ap: float,
        *,
        teacher: str | None = None,
        group: str | None = None,
        state: str = "succeeded",
        cause: str | None = None,
        points: int | None = None,
        share: float = 1.0,
        job_id: str | None = None,
    ) -> str:
        """A job that has ended, with its curves and its result; `share` is how far it came. Its id."""
        parsed = parse_spec({**spec, **({"teacher": {"job": teacher}} if teacher is not None else {})})
        number, self._jobs = self._jobs, self._jobs + 1
        job_id = job_id or f"job_generated{number:06d}"
        steps = round(STEPS * share)
        created = BEGIN + 240.0 * number
        started, took = created + 20, steps * float(self.draw.uniform(0.18, 0.22))
        rows = self.rows
        rows.jobs.append({
            **columns(parsed), "id": job_id, "project_id": PROJECT, "spec": parsed.canonical(), "state": state,
            "cause": cause, "wait_reason": None, "teacher_job_id": teacher, "group": group, "priority": 0, "retries": 0,
            "request_hash": "0" * 64, "step": steps, "total_steps": STEPS, "created_by": "seed-demo",
            "created_at": created, "started_at": started, "ended_at": started + took, "epoch": 1,
        })  # fmt: skip
        rows.tags.append({"job_id": job_id, "tag": TAG})
        rows.attempts.append({
            "id": f"att_{job_id[4:]}", "job_id": job_id, "number": 1, "epoch": 1, "state": state, "actor": "generated",
            "cpus": 4, "gpus": 1.0, "acked_seq": 0, "lease_until": 0.0, "created_at": created, "started_at": started,
            "ended_at": started + took, "cause": cause,
        })  # fmt: skip
        self._event(job_id, "job.state", started, {"from": None, "to": "running", "cause": None, "by": "seed-demo"})
        facts = {"device": DEVICE, "host": HOST, "data_version": "0" * 64}
        self._event(job_id, "job.facts", started, {"attempt": 1, "values": facts})
        self._curves(job_id, parsed, ap, started, took, steps, points or self._points)
        if state == "succeeded":
            self._result(job_id, parsed, ap, started + took)
        self._event(job_id, "job.state", started + took, {"from": "running", "to": state, "cause": cause, "by": None})
        return job_id

    def noise(self, size: float) -> float:
        return float(self.draw.normal(0, size))

    def _event(self, job_id: str, type: str, time: float, data: dict[str, Any]) -> None:
        self.rows.events.append({
            "time": time, "type": type, "job_id": job_id, "project_id": PROJECT, "actor": "worker", "data": data
        })  # fmt: skip

    def _curves(
        self, job_id: str, spec: JobSpec, ap: float, started: float, took: float, steps: int, points: int
    ) -> None:
        at = np.unique(np.linspace(max(1, steps // points), steps, points).astype(np.int64))
        progress = at / STEPS
        second = took / max(steps, 1)
        falling = 0.6 + 2.2 * np.exp(-5 * progress)
        scatter = self.draw.normal(0, 0.05, len(at))
        self._line(job_id, "loss", at, falling + scatter, started, second)
        self._line(job_id, "loss/qfl", at, 0.4 * falling + 0.4 * scatter, started, second)
        for method in spec.methods:
            self._line(job_id, f"loss/{method.type}", at, 0.3 * falling + 0.3 * scatter, started, second)
        self._line(job_id, "lr", at, 0.01 * (1 + np.cos(math.pi * progress)) / 2, started, second)
        judged = at[:: max(1, len(at) // 24)] if len(at) > 24 else at
        rise = (1 - np.exp(-4 * judged / STEPS)) / (1 - math.exp(-4))
        jumps = self.draw.normal(0, 0.4, len(judged)) * (1 - judged / STEPS)
        self._line(job_id, "AP", judged, (ap * rise + jumps).clip(0), started, second)
        cost = COSTS[spec.student.backbone]
        for key, value in zip(("parameters", "gflops", "latency_ms"), cost, strict=True):
            wobble = float(self.draw.uniform(0.99, 1.02)) if key == "latency_ms" else 1.0
            self._line(job_id, key, at[-1:], np.asarray([value * wobble]), started, second)

    def _line(
        self, job_id: str, key: str, at: NDArray[np.int64], values: NDArray[np.float64], started: float, second: float
    ) -> None:
        self._series += 1
        best = int(values.argmin() if lower_is_better(key) else values.argmax())
        self.rows.series.append({
            "id": self._series, "job_id": job_id, "key": key, "count": len(at), "last_step": int(at[-1]),
            "last_value": float(values[-1]), "best_step": int(at[best]), "best_value": float(values[best]),
        })  # fmt: skip
        self.rows.points.append((self._series, at, values, started, second))

    def _result(self, job_id: str, spec: JobSpec, ap: float, ended: float) -> None:
        taught = any(method.type == "bckd" for method in spec.methods)
        by_class = {
            name: round(ap + 4 * (c - 2.5) + self.noise(1.2) + (1.5 if taught and name == "bicycle" else 0.0), 2)
            for c, name in enumerate(CLASSES)
        }
        results = {
            "AP": ap, "AP50": ap * 1.5, "AP75": ap * 1.06, "APs": ap * 0.52, "APm": ap * 1.1, "APl": ap * 1.3,
            "per_class": by_class, "images": 5000, "objects": 36335,
        }  # fmt: skip
        self.rows.evaluations.append({
            "id": f"eval_{job_id[4:]}", "job_id": job_id, "attempt_id": f"att_{job_id[4:]}", "name": "final",
            "step": STEPS, "protocol": PROTOCOL, "results": results, "created_at": ended,
        })  # fmt: skip


def spec_of(
    name: str, student: Mapping[str, Any], seed: int, method: str | None = None, lr: float = 0.01
) -> dict[str, Any]:
    """A job spec; with a method it still lacks its teacher."""
    return {
        "name": name,
        "seed": seed,
        "data": {"type": "voc", "root": "/generated", "classes": list(CLASSES)},
        "student": dict(student),
        **({"methods": [{"type": method}]} if method is not None else {}),
        "schedule": {"steps": STEPS, "batch_size": 16, "optimizer": {"type": "sgd", "lr": lr}},
        "evaluation": {"every": 500},
    }


def studies(maker: Maker, jobs: int) -> Iterator[Rows]:
    """So many jobs: a teacher, baselines and methods over five seeds, again and again; one run in thirty fails."""
    number = 0
    while jobs > 0:
        student = STUDENTS[number % len(STUDENTS)]
        base = 30.0 + maker.noise(2.0)
        group = f"generated study {number}"
        teacher = maker.job(spec_of(f"generated teacher {number}", TEACHER, 0), base + 8, group=group)
        jobs -= 1
        for method in (None, *METHODS):
            for seed in range(5):
                if jobs <= 0:
                    break
                jobs -= 1
                spec = spec_of(f"generated {method or 'baseline'} {number}", student, seed, method)
                ends: dict[str, Any] = {}
                if maker.draw.random() < 1 / 30:
                    ends = {"state": "failed", "cause": "loss became NaN at step 812", "share": 0.07}
                maker.job(
                    spec,
                    base + (METHODS[method] if method else 0.0) + maker.noise(0.4),
                    teacher=teacher if method else None,
                    group=group,
                    **ends,
                )
        number += 1
        yield maker.take()


def comparison(maker: Maker, runs: int, points: int, group: str) -> Iterator[Rows]:
    """So many runs with long curves in one group: a baseline and methods over many seeds."""
    teacher = maker.job(spec_of("generated teacher of many", TEACHER, 0), 38.0)
    methods = (None, *list(METHODS)[:3])
    for i in range(runs):
        method, seed = methods[i % len(methods)], i // len(methods)
        ap = 30.0 + (METHODS[method] if method else 0.0) + maker.noise(0.4)
        spec = spec_of(f"generated {method or 'baseline'} of many", STUDENTS[0], seed, method)
        maker.job(spec, ap, teacher=teacher if method else None, group=group, points=points)
        yield maker.take()
