"""The event stream (server-sent events)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.exc import InterfaceError, OperationalError

from service.access.principal import Me, Principal, still
from service.db import Database
from service.deps import Config, Db
from service.errors import Problem
from service.events import service
from service.jobs.service import existing as existing_job
from service.models import Event

log = logging.getLogger("bcd.api")
router = APIRouter(tags=["events"])

RECHECK_SECONDS = 10.0  # a stream outlives its token by so much at most
PING_SECONDS = 10.0  # proxies drop connections that are silent for longer; also how a dead client is found


def _place(
    db: Db,
    me: Me,
    job: Annotated[list[str], Query(description="Only events of these jobs; may be repeated.", max_length=50)] = [],  # noqa: B006
    after: Annotated[int, Query(ge=-1, le=2**63 - 1, description="Start behind this event; -1: only new ones.")] = 0,
    last_event_id: Annotated[str | None, Header(max_length=20, description="Sent by a client that reconnects.")] = None,
) -> int:
    """Dependency: the event id to start behind. Faults are answered before the stream begins."""
    if last_event_id:
        if not (last_event_id.isascii() and last_event_id.isdigit()) or int(last_event_id) > 2**63 - 1:
            raise Problem(422, "Last-Event-ID must be the id of an event, a whole number")
        after = int(last_event_id)
    with db.read() as session:
        for job_id in job:
            existing_job(session, me, job_id)
        return service.newest_id(session) if after < 0 else after


@router.get("/events", response_class=EventSourceResponse, summary="What happens, as server-sent events")
async def stream_events(
    request: Request,
    db: Db,
    me: Me,
    settings: Config,
    start: Annotated[int, Depends(_place)],
    job: Annotated[list[str], Query()] = [],  # noqa: B006
) -> AsyncIterator[ServerSentEvent]:
    last, spoke, checked = start, 0.0, time.monotonic()
    caller: Principal | None = me
    while not request.app.state.closing():
        try:
            if time.monotonic() - checked >= RECHECK_SECONDS:
                caller, checked = await to_thread.run_sync(_still, db, me), time.monotonic()
            if caller is None:
                return
            events = await to_thread.run_sync(_read, db, caller, last, job)
        except (OperationalError, InterfaceError) as error:
            log.warning("an event stream ends because the database does not answer: %s", error)
            return  # the client reconnects and goes on behind the last event that it saw
        for event in events:
            yield ServerSentEvent(id=str(event.id), data=service.as_data(event))
            last = event.id
        if events:
            spoke = time.monotonic()
        elif time.monotonic() - spoke >= PING_SECONDS:
            # at once as well: the client learns that the stream stands
            yield ServerSentEvent(comment="ping")
            spoke = time.monotonic()
        if len(events) < service.BATCH:
            await asyncio.sleep(settings.poll_seconds)


def _still(db: Database, me: Principal) -> Principal | None:
    with db.read() as session:
        return still(session, me)


def _read(db: Database, me: Principal, last: int, job_ids: list[str]) -> list[Event]:
    with db.read() as session:
        return service.after(session, me, last, job_ids)
