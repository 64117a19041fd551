"""Looking at jobs: one, a page of them, their metrics and evaluations."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.errors import Problem
from service.jobs import needs, repository
from service.jobs.schemas import (
    EvaluationsOut,
    JobOut,
    MetricsOut,
    Series,
    evaluation_out,
    job_out,
)
from service.models import Job, Role
from service.results import metrics as results


def show(session: Session, me: Principal, job_id: str) -> JobOut:
    """One job with the tracebacks of its attempts. Raises `Problem` 404."""
    return shown(session, [existing(session, me, job_id)], tracebacks=True)[0]


def metrics(session: Session, me: Principal, job_id: str, *, keys: Sequence[str], after_step: int | None) -> MetricsOut:
    """Metric series of a job. Raises `Problem` 404."""
    existing(session, me, job_id)
    series: dict[str, Series] = {}
    for key, step, value, moment in results.read(session, job_id, keys=keys, after_step=after_step):
        one = series.setdefault(key, Series(steps=[], values=[], times=[]))
        one.steps.append(step)
        one.values.append(value)
        one.times.append(moment)
    return MetricsOut(series=series)


def evaluations(session: Session, me: Principal, job_id: str) -> EvaluationsOut:
    """Evaluations of a job in the order of their steps. Raises `Problem` 404."""
    existing(session, me, job_id)
    return EvaluationsOut(items=[evaluation_out(row) for row in repository.evaluations(session, job_id)])


def existing(session: Session, me: Principal, job_id: str) -> Job:
    """The job. Raises `Problem` 404."""
    job = repository.get(session, me, job_id)
    if job is None:
        raise not_found(job_id)
    return job


def to_change(session: Session, me: Principal, job_id: str) -> Job:
    """The job, locked, for a caller who may change it. Raises `Problem` 404 or 403."""
    job = repository.get(session, me, job_id, lock=True)
    if job is None:
        raise not_found(job_id)
    me.require(job.project_id, Role.EDITOR)
    return job


def not_found(job_id: str) -> Problem:
    return Problem(404, f"there is no job {job_id!r}")


def shown(session: Session, jobs: Sequence[Job], *, tracebacks: bool = False) -> list[JobOut]:
    """Jobs as the API shows them, in a few statements for all of them together."""
    ids = [job.id for job in jobs]
    attempts, finals = repository.attempts_of(session, ids), repository.final_results(session, ids)
    tags, needed = repository.tags_of(session, ids), needs.of(session, ids)
    return [
        job_out(
            job, attempts[job.id], finals.get(job.id), tags=tags[job.id], needs=needed[job.id], tracebacks=tracebacks
        )
        for job in jobs
    ]
