"""What waiting jobs are told: why they do not run yet. Written only where it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session, aliased

from service.dispatch.words import behind_many
from service.models import Dependency, Job, JobState

MOST = 1000  # rows that are looked at in one go

_needed = aliased(Job)
_WAITING = (
    select(Job.id, Job.wait_reason, _needed.id, _needed.state)
    .join(Dependency, Dependency.job_id == Job.id)
    .join(_needed, _needed.id == Dependency.needs_id)
    .where(Job.state == JobState.WAITING.value, _needed.state != JobState.SUCCEEDED.value)
    .order_by(Job.created_at, Job.id, _needed.id)
    .limit(MOST)
)


def for_others(session: Session) -> dict[str, str]:
    """New reasons of the oldest jobs that wait for other jobs."""
    told: dict[str, str | None] = {}
    needs: dict[str, list[str]] = {}
    for id, reason, other, state in session.execute(_WAITING):
        told[id] = reason
        needs.setdefault(id, []).append(f"{other} ({state})")
    reasons = {id: _waits_for(others) for id, others in needs.items()}
    return {id: reason for id, reason in reasons.items() if told[id] != reason}


def behind(session: Session, known: Sequence[str]) -> dict[str, str]:
    """New reasons of queued jobs beyond the `known` ones, which are all ahead of them."""
    text = behind_many()
    query = select(Job.id).where(
        Job.state == JobState.QUEUED.value,
        Job.id.not_in(known),
        or_(Job.wait_reason.is_(None), Job.wait_reason != text),
    )
    return dict.fromkeys(session.scalars(query.limit(MOST)), text)


def write(session: Session, reasons: Mapping[str, str]) -> None:
    """Store them. Rows that somebody else has locked are left for the next time: this never waits for a job."""
    if not reasons:
        return
    still = select(Job.id).where(
        Job.id.in_(list(reasons)), Job.state.in_([JobState.QUEUED.value, JobState.WAITING.value])
    )
    rows: list[dict[str, Any]] = [
        {"id": id, "wait_reason": reasons[id]} for id in session.scalars(still.with_for_update(skip_locked=True))
    ]
    if rows:
        session.execute(update(Job), rows)


def write_to_all(session: Session, reason: str) -> None:
    """Tell every queued job the same."""
    write(session, dict.fromkeys(session.scalars(_not_told(reason).limit(MOST)), reason))


def all_told(session: Session, reason: str) -> bool:
    return session.scalar(_not_told(reason).limit(1)) is None


def _not_told(reason: str) -> Any:
    other = or_(Job.wait_reason.is_(None), Job.wait_reason != reason)
    return select(Job.id).where(Job.state == JobState.QUEUED.value, other)


def _waits_for(others: Sequence[str]) -> str:
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"waits for job {others[0]}{more}"
