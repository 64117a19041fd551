"""Reading events in the order of their ids, such that none is ever skipped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.models import Event

BATCH = 500
# A transaction that has drawn an id may commit after one that drew a later id (PostgreSQL). Readers wait this long
# (seconds) at a hole; after that it belongs to a transaction that was rolled back.
SETTLE_SECONDS = 5.0
_LOOK_BACK = 200  # ids in which a hole can still be young


def newest_id(session: Session) -> int:
    """The id of the last event, 0 when there is none."""
    return session.scalar(select(func.max(Event.id))) or 0


def settled(session: Session) -> int:
    """The id of the last event that can be read: none will still come before it."""
    if session.get_bind().dialect.name == "sqlite":  # commits in the order of ids
        return newest_id(session)
    recent = session.execute(select(Event.id, Event.time).order_by(Event.id.desc()).limit(_LOOK_BACK)).all()
    limit = settled_up_to([(id, moment) for id, moment in recent], now=time.time())
    return limit if limit is not None else recent[0].id if recent else 0


def between(
    session: Session, me: Principal, after: int, upto: int, condition: ColumnElement[bool], *, limit: int
) -> list[Event]:
    """Up to `limit` events behind `after` up to `upto` (as `settled` gave it) that the caller may look at."""
    query = select(Event).where(Event.id > after, Event.id <= upto, me.visible(Event.project_id), condition)
    return list(session.scalars(query.order_by(Event.id).limit(limit)))


def settled_up_to(newest_first: Sequence[tuple[int, float]], *, now: float) -> int | None:
    """The last id before the oldest young hole in (id, time) pairs, newest first; None: there is no young hole."""
    limit = None
    for (later, moment), (earlier, _) in pairwise(newest_first):
        if now - moment > SETTLE_SECONDS:
            break
        if later != earlier + 1:
            limit = earlier
    return limit
