"""Accepting jobs: new specs, clones and retries. The only place that makes a row in `jobs`."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bcd import crash
from bcd.spec import JobSpec, SpecError, parse_spec
from service.access import audit
from service.access.principal import Principal
from service.db import Database
from service.errors import INVALID_SPEC, Problem
from service.jobs import inherit, needs, repository
from service.jobs.describe import columns
from service.jobs.options import Options, Origin, request_hash
from service.jobs.schemas import JobOut
from service.jobs.shown import shown
from service.jobs.states import write_event
from service.models import Dependency, Job, JobState, JobTag, Project, Role, new_id


def submit(
    db: Database,
    me: Principal,
    value: Any,
    options: Options = Options(),
    *,
    key: str | None = None,
    origin: Origin | None = None,
) -> tuple[JobOut, bool]:
    """Accept a job spec given as plain values. Returns the job and whether it is new.

    The same idempotency key with the same spec and options gives the job that is already there, also when both arrive
    at once. Raises `Problem`: 422 for what cannot be used, 409 for a key that belongs to another request, 403 and 404.
    """
    me.require(options.project, Role.EDITOR)
    spec = parsed(value)
    me.require_paths(spec)
    same = request_hash(spec, options, origin)
    try:
        with db.write() as session:
            existing = _earlier(session, options.project, key, same)
            if existing is not None:
                return existing, False
            job = shown(session, [_insert(session, me, spec, options, key, same, origin)])[0]
            crash.point("submit.inserted")
        crash.point("submit.committed")
        return job, True
    except IntegrityError:
        # PostgreSQL: another submission with this key committed between our look and our insert
        with db.read() as session:
            existing = _earlier(session, options.project, key, same)
        if existing is None:
            raise
        return existing, False


def parsed(value: Any) -> JobSpec:
    """The spec. Raises `Problem` 422 with a pointer for each fault."""
    try:
        return parse_spec(value)
    except SpecError as error:
        raise refusal(error.errors) from None


def refusal(faults: list[needs.Fault]) -> Problem:
    """422 for a submission with these faults: pointers into the spec, or names of query parameters (`?after`)."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    pointer, message = faults[0]
    what = "a job with this option" if pointer.startswith("?") else "the job spec"
    detail = f"{what} cannot be used: {pointer or '/'}: {message}{more}"
    return Problem(422, detail, type=INVALID_SPEC, errors=faults[:100])


def _earlier(session: Session, project: str, key: str | None, same: str) -> JobOut | None:
    job = repository.by_idempotency_key(session, project, key) if key is not None else None
    if job is None:
        return None
    if job.request_hash != same:
        raise Problem(409, f"this Idempotency-Key was used for another request (job {job.id}); use a new key")
    return shown(session, [job])[0]


def insert(session: Session, me: Principal, spec: JobSpec, options: Options, *, job_id: str) -> Job:
    """Accept a job under a given id, for others who make jobs (sweeps). The caller knows that there is none of this
    id, and commits. Raises `Problem` as `submit`.
    """
    return _insert(session, me, spec, options, None, request_hash(spec, options, None), None, job_id=job_id)


def _insert(
    session: Session,
    me: Principal,
    spec: JobSpec,
    options: Options,
    key: str | None,
    same: str,
    origin: Origin | None,
    *,
    job_id: str | None = None,
) -> Job:
    if session.get(Project, options.project) is None:
        raise Problem(404, f"there is no project {options.project!r}")
    needed = needs.find(session, me, spec, options, lock=True)
    if needed.faults:
        raise refusal(needed.faults)
    job = Job(
        **columns(spec),
        id=job_id or new_id("job"),
        project_id=options.project,
        spec=spec.canonical(),
        state=(JobState.QUEUED if needed.met else JobState.WAITING).value,
        teacher_job_id=needed.teacher.id if needed.teacher is not None else None,
        parent_id=origin.parent_id if origin is not None else None,
        origin=origin.type if origin is not None else None,
        group=options.group,
        priority=options.priority,
        retries=options.retries,
        idempotency_key=key,
        request_hash=same,
        step=0,
        total_steps=spec.planned_steps() or 0,  # 0: known once the data set is read
        created_by=me.name,
        created_at=time.time(),
        epoch=0,
    )
    session.add(job)
    session.flush()
    session.add_all(Dependency(job_id=job.id, needs_id=needed_job.id) for needed_job in needed.jobs)
    session.add_all(JobTag(job_id=job.id, tag=tag) for tag in options.tags)
    data = {"from": None, "to": job.state, "cause": None, "by": me.name}
    if origin is not None:
        data |= {"origin": origin.type, "parent_id": origin.parent_id}
        if origin.type == "retry" and not origin.from_start:
            inherit.take_over(session, origin.parent_id, job)
    write_event(session, "job.state", job, actor="user", data=data, moment=job.created_at)
    action = f"job.{origin.type}" if origin is not None else "job.submit"
    parent = {"parent_id": origin.parent_id} if origin is not None else {}
    audit.record(session, me, action, job.id, project_id=job.project_id, data=parent)
    session.flush()
    return job
