"""New events for the loops that follow them (mirror, webhooks): none is skipped, and a quiet round is one query."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.events.service import SETTLE_SECONDS
from service.models import Event

LIMIT = 5000


class Told(NamedTuple):
    """An event without its data."""

    id: int
    time: float
    type: str
    job_id: str | None
    project_id: str | None


def tail(session: Session, after: int, *, now: float, limit: int = LIMIT) -> list[Told]:
    """Up to `limit` events behind `after`, in order; the id of the last one is where to go on.

    On PostgreSQL it ends at a young hole in the ids: a transaction that drew an earlier id may still commit.
    """
    query = select(Event.id, Event.time, Event.type, Event.job_id, Event.project_id).where(Event.id > after)
    rows = [Told(*row) for row in session.execute(query.order_by(Event.id).limit(limit))]
    if session.get_bind().dialect.name == "sqlite":  # commits in the order of ids
        return rows
    previous = after
    for place, row in enumerate(rows):
        if row.id != previous + 1 and now - row.time < SETTLE_SECONDS:
            return rows[:place]
        previous = row.id
    return rows
