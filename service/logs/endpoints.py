"""HTTP routes of logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service.access.principal import Me, Principal
from service.deps import Config, Db
from service.errors import Problem
from service.events.follow import LastEventId, Reading, follow, last_seen
from service.logs import service
from service.logs.schemas import LogsOut
from service.logs.service import Level, Wanted

router = APIRouter(tags=["logs"])

MAX_ID = 2**63 - 1
MOST = 5000


def _wanted(
    job_id: str,
    attempt: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only lines of this attempt.")] = None,
    level: Annotated[Level, Query(description="Only lines of this level or above.")] = "debug",
    q: Annotated[str | None, Query(max_length=200, description="Only lines that hold this text, in any case.")] = None,
) -> Wanted:
    return Wanted(job_id, attempt, level, q)


_Wanted = Annotated[Wanted, Depends(_wanted)]


@router.get("/jobs/{job_id}/logs", summary="Log lines")
def get_logs(
    db: Db,
    me: Me,
    wanted: _Wanted,
    after: Annotated[int | None, Query(ge=0, le=MAX_ID, description="`next` of the answer before.")] = None,
    before: Annotated[
        int | None, Query(ge=1, le=MAX_ID, description="`previous` of an answer: the lines before it.")
    ] = None,
    tail: Annotated[int | None, Query(ge=1, le=MOST, description="The last so many lines.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 1000,
) -> LogsOut:
    if sum(one is not None for one in (after, before, tail)) > 1:
        raise Problem(422, "give one of after, before and tail", errors=[("?after", "give one of after, before, tail")])
    with db.read() as session:
        service.check(session, me, wanted)
        if before is None and tail is None:
            return service.forward(session, wanted, after=after or 0, limit=limit)
        return service.backward(session, wanted, before=before, limit=tail or limit)


def _start(
    db: Db,
    me: Me,
    wanted: _Wanted,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="Start behind this line.")] = 0,
    last_event_id: LastEventId = None,
) -> int:
    """Dependency: the line to start behind. Faults are answered before the stream begins."""
    with db.read() as session:
        service.check(session, me, wanted)
    return last_seen(last_event_id, after)


@router.get("/jobs/{job_id}/logs/stream", response_class=EventSourceResponse, summary="Log lines as server-sent events")
async def stream_logs(
    request: Request, db: Db, me: Me, settings: Config, wanted: _Wanted, start: Annotated[int, Depends(_start)]
) -> AsyncIterator[ServerSentEvent]:
    """Follows until the job has ended; the last event is then named `end` and holds the job's state."""
    place = start

    def read(caller: Principal) -> Reading:
        nonlocal place
        with db.read() as session:
            if not service.visible(session, caller, wanted):  # the caller has lost the project meanwhile
                return Reading([], more=False, done=True)
            news = service.news(session, wanted, after=place)
        place = news.place
        events = [ServerSentEvent(id=str(line.id), data=line) for line in news.lines]
        if news.ended is not None:
            events.append(ServerSentEvent(event="end", data={"state": news.ended}))
        return Reading(events, more=news.more, done=news.ended is not None)

    async for event in follow(request, settings, me, read):
        yield event
