"""Reading events in the order of their ids, such that none is ever skipped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

from sqlalchemy import func, select
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


def after(
    session: Session,
    me: Principal,
    last_id: int,
    job_ids: Sequence[str],
    *,
    types: Sequence[str] = (),
    limit: int | None = None,
) -> list[Event]:
    """Up to `limit` (`BATCH`) events behind `last_id`, of these types and jobs (none given: of all that the caller may
    look at).
    """
    query = select(Event).where(Event.id > last_id, me.visible(Event.project_id)).order_by(Event.id)
    query = query.limit(BATCH if limit is None else limit)
    if job_ids:
        query = query.where(Event.job_id.in_(job_ids))
    if types:
        query = query.where(Event.type.in_(types))
    if session.get_bind().dialect.name != "sqlite":  # SQLite commits in the order of ids
        recent = session.execute(select(Event.id, Event.time).order_by(Event.id.desc()).limit(_LOOK_BACK))
        settled = settled_up_to([(id, moment) for id, moment in recent], now=time.time())
        if settled is not None:
            query = query.where(Event.id <= settled)
    return list(session.scalars(query))


def settled_up_to(newest_first: Sequence[tuple[int, float]], *, now: float) -> int | None:
    """The last id before the oldest young hole in (id, time) pairs, newest first; None: there is no young hole."""
    limit = None
    for (later, moment), (earlier, _) in pairwise(newest_first):
        if now - moment > SETTLE_SECONDS:
            break
        if later != earlier + 1:
            limit = earlier
    return limit
