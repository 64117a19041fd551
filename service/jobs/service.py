"""Decisions about jobs: accept a spec, cancel, show."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bcd import crash
from bcd.spec import JobSpec, SpecError, check_pair, parse_spec
from service.access.principal import Principal
from service.db import Database
from service.errors import INVALID_SPEC, Problem
from service.jobs import repository
from service.jobs.describe import columns
from service.jobs.schemas import JobOut, LogLineOut, LogsOut, MetricsOut, Series, job_out
from service.jobs.states import move, write_event
from service.models import DEFAULT_PROJECT, Dependency, Job, JobState, Project, Role, new_id
from service.results import metrics as results


@dataclass(frozen=True)
class Options:
    """What a submission says beside the spec."""

    project: str = DEFAULT_PROJECT
    idempotency_key: str | None = None


def submit(db: Database, me: Principal, value: Any, options: Options = Options()) -> tuple[JobOut, bool]:
    """Accept a job spec given as plain values. Returns the job and whether it is new.

    The same key with the same spec gives the job that is already there, also when both arrive at once.
    Raises `Problem`: 422 for a spec that cannot be used, 409 for a key that belongs to another spec, 403 and 404.
    """
    me.require(options.project, Role.EDITOR)
    spec = _parsed(value)
    me.require_paths(spec)
    try:
        with db.write() as session:
            existing = _earlier(session, spec, options)
            if existing is not None:
                return existing, False
            job = _insert(session, me, spec, options)
            crash.point("submit.inserted")
        crash.point("submit.committed")
        return job_out(job, [], None), True
    except IntegrityError:
        # PostgreSQL: another submission with this key committed between our look and our insert
        with db.read() as session:
            existing = _earlier(session, spec, options)
        if existing is None:
            raise
        return existing, False


def _parsed(value: Any) -> JobSpec:
    try:
        return parse_spec(value)
    except SpecError as error:
        raise _bad_spec(error.errors) from None


def _bad_spec(errors: list[tuple[str, str]]) -> Problem:
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    pointer, message = errors[0]
    detail = f"the job spec cannot be used: {pointer or '/'}: {message}{more}"
    return Problem(422, detail, type=INVALID_SPEC, errors=errors[:100])


def _earlier(session: Session, spec: JobSpec, options: Options) -> JobOut | None:
    key = options.idempotency_key
    job = repository.by_idempotency_key(session, options.project, key) if key is not None else None
    if job is None:
        return None
    if job.request_hash != spec.digest():
        raise Problem(409, f"this Idempotency-Key was used for another spec (job {job.id}); use a new key")
    return _shown(session, [job])[0]


def _insert(session: Session, me: Principal, spec: JobSpec, options: Options) -> Job:
    if session.get(Project, options.project) is None:
        raise Problem(404, f"there is no project {options.project!r}")
    teacher = _teacher(session, me, spec)
    waits = teacher is not None and teacher.state != JobState.SUCCEEDED
    job = Job(
        **columns(spec),
        id=new_id("job"),
        project_id=options.project,
        spec=spec.canonical(),
        state=(JobState.WAITING if waits else JobState.QUEUED).value,
        teacher_job_id=teacher.id if teacher is not None else None,
        idempotency_key=options.idempotency_key,
        request_hash=spec.digest(),
        step=0,
        total_steps=spec.planned_steps() or 0,  # 0: known once the data set is read
        created_by=me.name,
        created_at=time.time(),
        epoch=0,
    )
    session.add(job)
    session.flush()
    if teacher is not None:
        session.add(Dependency(job_id=job.id, needs_id=teacher.id))
    data = {"from": None, "to": job.state, "cause": None, "by": me.name}
    write_event(session, "job.state", job, actor="user", data=data, moment=job.created_at)
    return job


def _teacher(session: Session, me: Principal, spec: JobSpec) -> Job | None:
    """The job that trains the teacher, locked: it cannot end between this look and the commit."""
    if spec.teacher is None or spec.teacher.job is None:
        return None
    teacher = repository.get(session, me, spec.teacher.job, lock=True)
    if teacher is None:
        raise _bad_spec([("/teacher/job", f"there is no job {spec.teacher.job!r}; give the id of a job")])
    if teacher.state in (JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING):
        why = f" ({teacher.cause})" if teacher.cause else ""
        raise _bad_spec(
            [("/teacher/job", f"job {teacher.id} is {teacher.state}{why} and gives no teacher; choose another job")]
        )
    try:
        check_pair(spec, teacher.spec["student"])
    except SpecError as error:
        raise _bad_spec(error.errors) from None
    return teacher


def cancel(session: Session, me: Principal, job_id: str) -> JobOut:
    """Cancel a job: at once while it waits, through its worker while it runs. Again changes nothing.

    Raises `Problem`: 404, 403, or 409 when the job has already succeeded or failed.
    """
    job = to_change(session, me, job_id)
    if job.state in (JobState.WAITING, JobState.QUEUED):
        move(session, job, JobState.CANCELLED, actor="user", by=me.name, cause="cancelled before it started")
    elif job.state in (JobState.STARTING, JobState.RUNNING):
        move(session, job, JobState.CANCELLING, actor="user", by=me.name)
    elif job.state in (JobState.SUCCEEDED, JobState.FAILED):
        raise Problem(409, f"job {job.id} has already {job.state}; there is nothing to cancel")
    return _shown(session, [job], tracebacks=True)[0]


def show(session: Session, me: Principal, job_id: str) -> JobOut:
    """One job with the tracebacks of its attempts. Raises `Problem` 404."""
    return _shown(session, [existing(session, me, job_id)], tracebacks=True)[0]


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


def logs(session: Session, me: Principal, job_id: str, *, after: int, limit: int) -> LogsOut:
    """Log lines behind line `after`. Raises `Problem` 404."""
    existing(session, me, job_id)
    lines = [
        LogLineOut(id=line.id, time=line.time, level=line.level, text=line.text, attempt=number)
        for line, number in repository.logs(session, job_id, after=after, limit=limit)
    ]
    return LogsOut(lines=lines, next=lines[-1].id if lines else after)


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


def _shown(session: Session, jobs: Sequence[Job], *, tracebacks: bool = False) -> list[JobOut]:
    ids = [job.id for job in jobs]
    attempts, finals = repository.attempts_of(session, ids), repository.final_results(session, ids)
    return [job_out(job, attempts[job.id], finals.get(job.id), tracebacks=tracebacks) for job in jobs]
