"""What people do to a job: cancel, pause, resume, change its priority or its words. Doing it again changes nothing.

The caller commits. All raise `Problem`: 404, 403, or 409 where the job's state does not allow it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete
from sqlalchemy.orm import Session

from service.access import audit
from service.access.principal import Principal
from service.errors import Problem
from service.jobs import needs
from service.jobs.options import Group, Priority, Tags
from service.jobs.repository import tags_of
from service.jobs.shown import existing, to_change
from service.jobs.states import move, standing, write_event
from service.models import TERMINAL, Job, JobState, JobTag

S = JobState


def cancel(session: Session, me: Principal, job_id: str) -> Job:
    """At once while the job has no worker, else through its worker."""
    job = to_change(session, me, job_id)
    if job.state in (S.WAITING, S.QUEUED, S.PAUSED):
        cause = "cancelled while it was paused" if job.state == S.PAUSED else "cancelled before it started"
        move(session, job, S.CANCELLED, actor="user", by=me.name, cause=cause)
        _note(session, me, "job.cancel", job)
    elif job.state in (S.STARTING, S.RUNNING, S.PAUSING):
        move(session, job, S.CANCELLING, actor="user", by=me.name)
        _note(session, me, "job.cancel", job)
    elif job.state in (S.SUCCEEDED, S.FAILED):
        raise Problem(409, f"job {job.id} has already {job.state}; there is nothing to cancel")
    return job


def pause(session: Session, me: Principal, job_id: str) -> Job:
    """At once while the job has no worker; else its worker writes a checkpoint and stops."""
    job = to_change(session, me, job_id)
    if job.state in (S.WAITING, S.QUEUED):
        move(session, job, S.PAUSED, actor="user", by=me.name, cause="paused before it started")
        _note(session, me, "job.pause", job)
    elif job.state in (S.STARTING, S.RUNNING):
        move(session, job, S.PAUSING, actor="user", by=me.name)
        _note(session, me, "job.pause", job)
    elif job.state not in (S.PAUSING, S.PAUSED):
        raise Problem(409, f"job {job.id} is {job.state}; only a job that waits or runs can be paused")
    return job


def resume(session: Session, me: Principal, job_id: str) -> Job:
    """Put a paused job back where it belongs by what it needs: into the queue, to those that wait, or failed."""
    existing(session, me, job_id)
    needs.lock(session, job_id)
    job = to_change(session, me, job_id)
    if job.state == S.PAUSED:
        to, cause = standing(session, job)
        move(session, job, to, actor="user", by=me.name, cause=cause)
        _note(session, me, "job.resume", job)
    elif job.state == S.PAUSING:
        raise Problem(409, f"job {job.id} is still pausing; resume it once it is paused")
    elif job.state in (S.FAILED, S.CANCELLED):
        raise Problem(409, f"job {job.id} is {job.state}, which is final; retry it: that makes a new job")
    elif job.state in (S.SUCCEEDED, S.CANCELLING):
        raise Problem(409, f"job {job.id} is {job.state}; there is nothing to resume")
    return job


class Change(BaseModel):
    """What may change once a job was accepted; what is not given stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    priority: Priority | None = None
    tags: Tags | None = None
    group: Group | None = None


def change(session: Session, me: Principal, job_id: str, wanted: Change) -> Job:
    """Set what `wanted` gives: the priority until the job has ended, tags and group at any time (null: none)."""
    job = to_change(session, me, job_id)
    given = wanted.model_fields_set
    old: dict[str, Any] = {"priority": job.priority, "tags": tags_of(session, [job.id])[job.id], "group": job.group}
    new: dict[str, Any] = {"priority": wanted.priority or 0, "tags": list(wanted.tags or ()), "group": wanted.group}
    changed = sorted(name for name in given if new[name] != old[name])
    if "priority" in changed and job.state in TERMINAL:
        raise Problem(409, f"job {job.id} has ended ({job.state}); a priority would change nothing")
    for name in changed:
        if name == "tags":
            session.execute(delete(JobTag).where(JobTag.job_id == job.id))
            session.add_all(JobTag(job_id=job.id, tag=tag) for tag in new["tags"])
        else:
            setattr(job, name, new[name])
    if changed:
        now = {name: new[name] for name in changed}
        data = {"by": me.name, "from": {name: old[name] for name in changed}, "to": now}
        write_event(session, "job.changed", job, actor="user", data=data)
        _note(session, me, "job.change", job, **now)
        session.flush()
    return job


def _note(session: Session, me: Principal, action: str, job: Job, **data: Any) -> None:
    audit.record(session, me, action, job.id, project_id=job.project_id, data=data)
