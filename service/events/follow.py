"""Server-sent events from a database: read again and again until there is no more, or the service closes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, NamedTuple

from anyio import to_thread
from fastapi import Header, Request
from fastapi.sse import ServerSentEvent
from sqlalchemy.exc import InterfaceError, OperationalError

from service.access.principal import Principal, still
from service.errors import Problem
from service.settings import Settings

log = logging.getLogger("bcd.api")

RECHECK_SECONDS = 10.0  # a stream outlives its token by so much at most
PING_SECONDS = 10.0  # proxies drop connections that are silent for longer; also how a dead client is found
LastEventId = Annotated[str | None, Header(max_length=20, description="Sent by a client that reconnects.")]


class Reading(NamedTuple):
    """What one look at the database gave: events to send, whether there are more at once, whether that was all.

    `place`: the id up to which everything was looked at, also where nothing was found; a client resumes there.
    """

    events: list[ServerSentEvent]
    more: bool
    done: bool = False
    place: int | None = None


def last_seen(last_event_id: str | None, after: int) -> int:
    """The id to go on behind: what a client that reconnects has seen wins over the address. Raises `Problem` 422."""
    if not last_event_id:
        return after
    if not (last_event_id.isascii() and last_event_id.isdigit()) or int(last_event_id) > 2**63 - 1:
        raise Problem(422, "Last-Event-ID must be the id of an event, a whole number")
    return int(last_event_id)


async def follow(
    request: Request, settings: Settings, me: Principal, read: Callable[[Principal], Reading]
) -> AsyncIterator[ServerSentEvent]:
    """The events of one reading after another. `read` is called in a thread and remembers its place.

    It gets the caller as their token lets them act now; the stream ends soon after the token does.
    """
    spoke, checked = 0.0, time.monotonic()
    caller: Principal | None = me
    while not request.app.state.closing():
        try:
            if time.monotonic() - checked >= RECHECK_SECONDS:
                caller, checked = await to_thread.run_sync(_still, request, me), time.monotonic()
            if caller is None:
                return
            reading = await to_thread.run_sync(read, caller)
        except (OperationalError, InterfaceError) as error:
            log.warning("an event stream ends because the database does not answer: %s", error)
            return  # the client reconnects and goes on behind the last event that it saw
        for event in reading.events:
            yield event
        if reading.done:
            return
        if reading.events:
            spoke = time.monotonic()
        elif time.monotonic() - spoke >= PING_SECONDS:
            # at once as well: the client learns that the stream stands
            yield ServerSentEvent(comment="ping", id=None if reading.place is None else str(reading.place))
            spoke = time.monotonic()
        if not reading.more:
            await asyncio.sleep(settings.poll_seconds)


def _still(request: Request, me: Principal) -> Principal | None:
    with request.app.state.db.read() as session:
        return still(session, me)
