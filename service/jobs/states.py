"""The life of a job: which state may follow which, who may move it there, and the only function that does.

Every change writes an event in the same transaction. A terminal state never changes. When a job ends, the jobs that
wait for it are released or failed in the same transaction, so nobody can forget them.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.models import TERMINAL, Dependency, Event, Job, JobState

S = JobState
Actor = Literal["user", "dispatcher", "worker"]

_U, _D, _W = frozenset[Actor]({"user"}), frozenset[Actor]({"dispatcher"}), frozenset[Actor]({"worker"})

MOVES: dict[JobState, dict[JobState, frozenset[Actor]]] = {
    # waiting for other jobs; whoever ends the last of them releases it
    S.WAITING: {S.QUEUED: _U | _D | _W, S.FAILED: _U | _D | _W, S.PAUSED: _U, S.CANCELLED: _U},
    S.QUEUED: {S.STARTING: _D, S.FAILED: _D, S.PAUSED: _U, S.CANCELLED: _U},
    # back to QUEUED: the attempt was lost or failed for a reason that a new attempt may cure
    S.STARTING: {S.RUNNING: _W, S.QUEUED: _D | _W, S.FAILED: _D | _W, S.PAUSING: _U, S.CANCELLING: _U},
    S.RUNNING: {S.SUCCEEDED: _W, S.QUEUED: _D | _W, S.FAILED: _D | _W, S.PAUSING: _U, S.CANCELLING: _U},
    # to SUCCEEDED: the run finished before it heard of the request. From PAUSING and CANCELLING never back to QUEUED.
    S.PAUSING: {S.PAUSED: _D | _W, S.SUCCEEDED: _W, S.FAILED: _D | _W, S.CANCELLING: _U},
    S.PAUSED: {S.QUEUED: _U, S.WAITING: _U, S.FAILED: _U, S.CANCELLED: _U},
    S.CANCELLING: {S.CANCELLED: _D | _W, S.SUCCEEDED: _W, S.FAILED: _W},
    S.SUCCEEDED: {},
    S.FAILED: {},
    S.CANCELLED: {},
}
# States in which an attempt is alive or must be brought to its end.
ACTIVE = frozenset({S.STARTING, S.RUNNING, S.PAUSING, S.CANCELLING})


class IllegalMove(RuntimeError):
    """A change of state that the table does not allow: a fault of the program, or a lost race."""

    def __init__(self, job_id: str, now: str, to: str, actor: str):
        self.job_id, self.now, self.to, self.actor = job_id, now, to, actor
        super().__init__(f"job {job_id} is {now} and cannot become {to} by the {actor}")


def move(
    session: Session,
    job: Job,
    to: JobState,
    *,
    actor: Actor,
    by: str | None = None,
    cause: str | None = None,
    attempt_id: str | None = None,
) -> None:
    """Change the state of a job and write the event `job.state`. The caller commits.

    Read `job` inside a write transaction (on PostgreSQL `with_for_update()`). `by` is the user's name where a user
    does it; `cause` is one line for people. Raises `IllegalMove`.
    """
    now = JobState(job.state)
    if actor not in MOVES[now].get(to, ()):
        raise IllegalMove(job.id, now, to, actor)
    moment = time.time()
    job.state, job.cause, job.wait_reason = to.value, cause, None
    if to is S.RUNNING and job.started_at is None:
        job.started_at = moment
    if to in TERMINAL:
        job.ended_at = moment
    data: dict[str, Any] = {"from": now.value, "to": to.value, "cause": cause}
    if attempt_id is not None:
        data["attempt_id"] = attempt_id
    if by is not None:
        data["by"] = by
    write_event(session, "job.state", job, actor=actor, data=data, moment=moment)
    if to in TERMINAL:
        _settle_waiting(session, job, actor=actor)


def write_event(
    session: Session, type: str, job: Job, *, actor: str, data: dict[str, Any], moment: float | None = None
) -> None:
    """Add an event row; subscribers see it once the transaction is committed."""
    when = time.time() if moment is None else moment
    session.add(Event(time=when, type=type, job_id=job.id, project_id=job.project_id, actor=actor, data=data))


def standing(session: Session, job: Job) -> tuple[JobState, str | None]:
    """Where a job that is not running belongs by what it needs: QUEUED, WAITING, or FAILED with the cause."""
    needs = session.scalars(
        select(Job).join(Dependency, Dependency.needs_id == Job.id).where(Dependency.job_id == job.id).order_by(Job.id)
    ).all()
    for needed in needs:
        if needed.state in (S.FAILED, S.CANCELLED):
            why = f": {needed.cause}" if needed.cause else ""
            teaches = needed.id == job.teacher_job_id
            what = f"its teacher, job {needed.id}," if teaches else f"job {needed.id}, which it needs,"
            return S.FAILED, f"{what} {'was cancelled' if needed.state == S.CANCELLED else 'failed'}{why}"
    return (S.QUEUED if all(needed.state == S.SUCCEEDED for needed in needs) else S.WAITING), None


def _settle_waiting(session: Session, ended: Job, *, actor: Actor) -> None:
    """Release or fail the jobs that waited for this one. Their rows are locked first: of two that end at the same
    time the later one sees both.
    """
    session.flush()
    waiting = (
        select(Job)
        .join(Dependency, Dependency.job_id == Job.id)
        .where(Dependency.needs_id == ended.id, Job.state == S.WAITING.value)
        .order_by(Job.id)
        .with_for_update(of=Job)
    )
    for job in session.scalars(waiting).all():
        to, cause = standing(session, job)
        if to is not S.WAITING:
            move(session, job, to, actor=actor, cause=cause)
