"""The life of a job: which state may follow which, and the only function that changes a job's state.

Every change writes an event in the same transaction. A terminal state never changes. When a job ends, the jobs that
wait for it as their teacher are released or failed in the same transaction, so nobody can forget them.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.models import TERMINAL, Event, Job, JobState

S = JobState

ALLOWED: dict[JobState, frozenset[JobState]] = {
    S.WAITING: frozenset({S.QUEUED, S.FAILED, S.CANCELLED}),
    S.QUEUED: frozenset({S.STARTING, S.FAILED, S.CANCELLED}),
    # back to QUEUED: the attempt was lost or failed for a reason that a new attempt may cure
    S.STARTING: frozenset({S.RUNNING, S.QUEUED, S.CANCELLING, S.FAILED, S.CANCELLED}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.QUEUED, S.CANCELLING, S.FAILED, S.CANCELLED}),
    # to SUCCEEDED: the run finished before it heard of the cancellation; never back to QUEUED
    S.CANCELLING: frozenset({S.CANCELLED, S.SUCCEEDED, S.FAILED}),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
}


class IllegalMove(RuntimeError):
    """A change of state that the table does not allow: a fault of the program, or a lost race."""

    def __init__(self, job_id: str, now: str, to: str):
        self.job_id, self.now, self.to = job_id, now, to
        super().__init__(f"job {job_id} is {now} and cannot become {to}")


def move(
    session: Session,
    job: Job,
    to: JobState,
    *,
    actor: str,
    cause: str | None = None,
    attempt_id: str | None = None,
) -> None:
    """Change the state of a job and write the event `job.state`. The caller commits.

    Read `job` inside a write transaction (on PostgreSQL `with_for_update()`). `actor` is user, dispatcher or worker;
    `cause` is one line for people. Raises `IllegalMove`.
    """
    now = JobState(job.state)
    if to not in ALLOWED[now]:
        raise IllegalMove(job.id, now, to)
    moment = time.time()
    job.state, job.cause = to.value, cause
    if to is S.RUNNING and job.started_at is None:
        job.started_at = moment
    if to in TERMINAL:
        job.ended_at = moment
    data: dict[str, Any] = {"from": now.value, "to": to.value, "cause": cause}
    if attempt_id is not None:
        data["attempt_id"] = attempt_id
    write_event(session, "job.state", job.id, actor=actor, data=data, moment=moment)
    if to in TERMINAL:
        _settle_waiting(session, job, actor=actor)


def write_event(
    session: Session, type: str, job_id: str, *, actor: str, data: dict[str, Any], moment: float | None = None
) -> None:
    """Add an event row; subscribers see it once the transaction is committed."""
    when = time.time() if moment is None else moment
    session.add(Event(time=when, type=type, job_id=job_id, actor=actor, data=data))


def _settle_waiting(session: Session, teacher: Job, *, actor: str) -> None:
    waiting = select(Job).where(Job.teacher_job_id == teacher.id, Job.state == S.WAITING.value)
    for job in session.scalars(waiting.order_by(Job.id).with_for_update()):
        if teacher.state == S.SUCCEEDED.value:
            move(session, job, S.QUEUED, actor=actor)
        else:
            why = f": {teacher.cause}" if teacher.cause else ""
            move(session, job, S.FAILED, actor=actor, cause=f"its teacher, job {teacher.id}, {_ended(teacher)}{why}")


def _ended(job: Job) -> str:
    return "was cancelled" if job.state == S.CANCELLED.value else "failed"
