"""What the end of an attempt means for its job: done, tried again, or given up. The one place that decides it.

Two budgets. Faults of the infrastructure (worker died, node gone, disk full) are tried again as long as attempts get
further, see `fruitless_attempts`. Faults of the job itself (its data, its code, a loss that is not finite) are tried
again only as often as its submitter asked for (`retries`).
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy.orm import Session

from bcd.records import StateRecord
from service.attempts.repository import failures_of_the_job, fruitless_attempts
from service.jobs.states import Actor, move
from service.models import Attempt, Job, JobState
from service.settings import Settings

Asked = Literal["cancel", "pause"]
INFRASTRUCTURE, OF_THE_JOB = "infrastructure", "job"


def asked_of(job: Job) -> Asked | None:
    """What a user asked of a job that has an attempt."""
    if job.state == JobState.CANCELLING:
        return "cancel"
    return "pause" if job.state == JobState.PAUSING else None


def finish(session: Session, settings: Settings, attempt: Attempt, job: Job, record: StateRecord) -> None:
    """Close an attempt that ended with `record` (a terminal one) and move its job. The caller commits."""
    asked = asked_of(job)
    attempt.state, attempt.cause, attempt.traceback = record.state, record.cause, record.traceback
    if record.state == "failed":
        attempt.cause_type = INFRASTRUCTURE if record.retryable else OF_THE_JOB
    elif record.state == "cancelled":
        attempt.state = "paused" if asked == "pause" else "cancelled"
        attempt.cause_type = INFRASTRUCTURE if asked is None else None
    session.flush()
    to, cause = decide(
        record,
        asked=asked,
        fruitless=fruitless_attempts(session, job.id),
        most=settings.max_attempts,
        failures=failures_of_the_job(session, job.id),
        retries=job.retries,
    )
    move(session, job, to, actor="worker", cause=cause, attempt_id=attempt.id)


def lose(session: Session, settings: Settings, attempt: Attempt, job: Job, why: str, *, now: float) -> None:
    """Close an attempt whose worker is gone or was ended by force, and move its job. The caller commits."""
    asked = asked_of(job)
    attempt.state = {"cancel": "cancelled", "pause": "paused", None: "lost"}[asked]
    attempt.cause, attempt.cause_type, attempt.ended_at = why, INFRASTRUCTURE, now
    session.flush()
    actor: Actor = "dispatcher"
    if asked is not None:
        to, word = (JobState.CANCELLED, "cancelled") if asked == "cancel" else (JobState.PAUSED, "paused")
        move(session, job, to, actor=actor, cause=f"{word}; {why}", attempt_id=attempt.id)
        return
    fruitless = fruitless_attempts(session, job.id)
    if fruitless < settings.max_attempts:
        move(session, job, JobState.QUEUED, actor=actor, cause=why, attempt_id=attempt.id)
    else:
        cause = f"{fruitless} attempts in a row got no further; of the last one {why}"
        move(session, job, JobState.FAILED, actor=actor, cause=cause, attempt_id=attempt.id)


def decide(
    record: StateRecord, *, asked: Asked | None, fruitless: int, most: int, failures: int = 0, retries: int = 0
) -> tuple[JobState, str | None]:
    """The job's next state and its cause.

    `fruitless`: attempts in a row that got no further, this one included; `most`: how many of them a job may have.
    `failures`: attempts that ended by the job's own fault, this one included; `retries`: how many of them are tried
    again.

    A run that finished before it heard of the request has succeeded. A cancelled or paused job is never tried again
    by itself. A worker that says `cancelled` although nobody asked was stopped from outside: that may be retried.
    """
    if record.state == "succeeded":
        return JobState.SUCCEEDED, None
    if asked == "cancel":
        why = "" if record.state == "cancelled" else f"; {_why(record)}"
        return JobState.CANCELLED, f"stopped while it ran{why}"
    if record.state == "failed" and not record.retryable:
        if failures <= retries and asked is None:
            return JobState.QUEUED, f"{_why(record)}; trying again ({failures} of {retries} retries)"
        return JobState.FAILED, _why(record)
    if asked == "pause":
        why = "" if record.state == "cancelled" else f"; {_why(record)}"
        return JobState.PAUSED, f"paused at its newest checkpoint{why}"
    if fruitless < most:
        return JobState.QUEUED, f"{_why(record)}; trying again"
    return JobState.FAILED, f"{fruitless} attempts in a row got no further; the last one ended: {_why(record)}"


def _why(record: StateRecord) -> str:
    if record.cause:
        return record.cause
    return "the worker was stopped" if record.state == "cancelled" else "the run failed and gave no cause"
