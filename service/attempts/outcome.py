"""What the end of an attempt means for its job: done, tried again, or given up."""

from __future__ import annotations

from sqlalchemy.orm import Session

from bcd.records import StateRecord
from service.attempts.repository import fruitless_attempts
from service.jobs.states import move
from service.models import Attempt, Job, JobState
from service.settings import Settings


def finish(session: Session, settings: Settings, attempt: Attempt, job: Job, record: StateRecord) -> None:
    """Move the job after its attempt ended with `record` (a terminal one). The caller commits."""
    to, cause = decide(
        record,
        cancelling=job.state == JobState.CANCELLING,
        fruitless=fruitless_attempts(session, job.id),
        most=settings.max_attempts,
    )
    move(session, job, to, actor="worker", cause=cause, attempt_id=attempt.id)


def decide(record: StateRecord, *, cancelling: bool, fruitless: int, most: int) -> tuple[JobState, str | None]:
    """The job's next state and its cause. `fruitless`: attempts in a row that got no further, this one
    included; `most`: how many of them a job may have.

    A run that finished before it heard of the cancellation has succeeded. A cancelled job is never tried again.
    A worker that says `cancelled` although nobody cancelled the job was stopped from outside: that may be retried.
    """
    if record.state == "succeeded":
        return JobState.SUCCEEDED, None
    if cancelling:
        why = "" if record.state == "cancelled" else f"; {_why(record)}"
        return JobState.CANCELLED, f"stopped while it ran{why}"
    if record.state == "failed" and not record.retryable:
        return JobState.FAILED, _why(record)
    if fruitless < most:
        return JobState.QUEUED, f"{_why(record)}; trying again"
    return JobState.FAILED, f"{fruitless} attempts in a row got no further; the last one ended: {_why(record)}"


def _why(record: StateRecord) -> str:
    if record.cause:
        return record.cause
    return "the worker was stopped" if record.state == "cancelled" else "the run failed and gave no cause"
