"""Reading sweeps and their trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from bcd.sweep import Objective, SweepSpec
from bcd.sweep.spec import COSTS
from service.access.principal import Principal
from service.errors import Problem
from service.jobs.repository import FINAL
from service.models import Attempt, Evaluation, Job, JobState, Point, Role, Series, Sweep, Trial
from service.paging import decode_cursor, digest_of, encode_cursor


class TrialRow(NamedTuple):
    """A trial with its job."""

    trial: Trial
    job: Job


def spec_of(sweep: Sweep) -> SweepSpec:
    return SweepSpec.model_validate(sweep.spec)


def existing(session: Session, me: Principal, sweep_id: str) -> Sweep:
    """The sweep. Raises `Problem` 404."""
    query = select(Sweep).where(Sweep.id == sweep_id, me.visible(Sweep.project_id))
    return _found(session.scalars(query).one_or_none(), sweep_id)


def to_change(session: Session, me: Principal, sweep_id: str) -> Sweep:
    """The sweep, locked, for a caller who may change it. Raises `Problem` 404 or 403."""
    query = select(Sweep).where(Sweep.id == sweep_id, me.visible(Sweep.project_id)).with_for_update()
    sweep = _found(session.scalars(query).one_or_none(), sweep_id)
    me.require(sweep.project_id, Role.EDITOR)
    return sweep


def _found(sweep: Sweep | None, sweep_id: str) -> Sweep:
    if sweep is None:
        raise Problem(404, f"there is no sweep {sweep_id!r}")
    return sweep


def page(
    session: Session, me: Principal, *, limit: int, cursor: str | None, project: str | None, state: str | None
) -> tuple[Sequence[Sweep], str | None]:
    """Sweeps, newest first, and the cursor of the next page."""
    of = digest_of("sweeps", project, state)
    query = select(Sweep).where(me.visible(Sweep.project_id)).order_by(Sweep.created_at.desc(), Sweep.id.desc())
    if project is not None:
        query = query.where(Sweep.project_id == project)
    if state is not None:
        query = query.where(Sweep.state == state)
    if cursor is not None:
        place = decode_cursor(cursor, [(float, False), (str, False)], of=of)
        query = query.where(tuple_(Sweep.created_at, Sweep.id) < place)
    rows = session.scalars(query.limit(limit + 1)).all()
    following = encode_cursor((rows[limit - 1].created_at, rows[limit - 1].id), of=of) if len(rows) > limit else None
    return rows[:limit], following


def trials(session: Session, sweep_id: str, *, seed: int | None = None) -> list[TrialRow]:
    """All runs of a sweep by number and seed; with `seed` those of the search."""
    query = select(Trial, Job).join(Job, Job.id == Trial.job_id).where(Trial.sweep_id == sweep_id)
    if seed is not None:
        query = query.where(Trial.seed == seed, Trial.number > 0)
    return [TrialRow(*row) for row in session.execute(query.order_by(Trial.number, Trial.seed)).all()]


def counts(session: Session, sweep_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Of each sweep the number of its jobs by state."""
    query = (
        select(Trial.sweep_id, Job.state, func.count())
        .join(Job, Job.id == Trial.job_id)
        .where(Trial.sweep_id.in_(sweep_ids))
        .group_by(Trial.sweep_id, Job.state)
    )
    out: dict[str, dict[str, int]] = {sweep_id: {} for sweep_id in sweep_ids}
    for sweep_id, state, count in session.execute(query):
        out[sweep_id][state] = count
    return out


def reports(
    session: Session, job_ids: Sequence[str], objective: Objective, *, after: int = -1
) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of an objective at each evaluation of these jobs, in the order of steps."""
    query = (
        select(Series.job_id, Point.step, Point.value)
        .join(Point, Point.series_id == Series.id)
        .where(Series.job_id.in_(job_ids), Series.key == objective.metric, Point.step > after)
        .order_by(Series.job_id, Point.step)
    )
    out: dict[str, list[tuple[int, float]]] = {job_id: [] for job_id in job_ids}
    for job_id, step, value in session.execute(query):
        out[job_id].append((step, value))
    return out


def values(session: Session, jobs: Sequence[Job], objectives: Sequence[Objective]) -> dict[str, list[float | None]]:
    """The value of each objective, for those jobs that have succeeded. None: not defined (no such objects, say)."""
    done = [job.id for job in jobs if job.state == JobState.SUCCEEDED]
    out: dict[str, list[float | None]] = {job_id: [] for job_id in done}
    finals: dict[str, dict[str, object]] = {}
    if any(one.at == "final" and one.metric not in COSTS for one in objectives):
        query = select(Evaluation.job_id, Evaluation.results)
        rows = session.execute(query.where(Evaluation.job_id.in_(done), Evaluation.name == FINAL))
        finals = dict(rows.all())
    for objective in objectives:
        series = {}
        if objective.at == "best" or objective.metric in COSTS:
            best = Series.last_value if objective.metric in COSTS else Series.best_value
            found = session.execute(
                select(Series.job_id, best).where(Series.job_id.in_(done), Series.key == objective.metric)
            )
            series = dict(found.all())
        for job_id in done:
            out[job_id].append(series.get(job_id, _final(finals.get(job_id), objective.metric)))
    return out


def _final(results: dict[str, object] | None, metric: str) -> float | None:
    if results is None:
        return None
    per_class = results.get("per_class")
    value = results.get(metric)
    if metric.startswith("AP/") and isinstance(per_class, dict):
        value = per_class.get(metric[3:])
    return float(value) if isinstance(value, int | float) else None


def gpu_hours(session: Session, sweep_id: str, *, now: float) -> float:
    """GPUs times hours over all attempts of a sweep's jobs."""
    query = select(Attempt.gpus, Attempt.created_at, Attempt.ended_at).join(Trial, Trial.job_id == Attempt.job_id)
    rows = session.execute(query.where(Trial.sweep_id == sweep_id))
    return sum(gpus * ((ended or now) - created) for gpus, created, ended in rows) / 3600
