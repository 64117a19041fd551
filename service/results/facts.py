"""What runs have found out about themselves: code, machine, data, teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.models import Event


def facts_of(session: Session, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By job and name, as each job's newest attempt has told them."""
    newest = select(func.max(Event.id)).where(Event.job_id.in_(job_ids), Event.type == "job.facts")
    rows = session.scalars(select(Event).where(Event.id.in_(newest.group_by(Event.job_id))))
    return {event.job_id: event.data.get("values", {}) for event in rows if event.job_id is not None}
