"""The event stream (server-sent events), and the history of one job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy import and_

from service.access.principal import Me, Principal
from service.deps import Config, Db
from service.events import service
from service.events.follow import LastEventId, Reading, follow, last_seen
from service.events.schemas import EventsOut, event_out
from service.events.tip import Tip
from service.events.topics import ALL, Topics, parse_topics
from service.jobs.service import existing as existing_job
from service.models import Event

router = APIRouter(tags=["events"])

MAX_ID = 2**63 - 1


def _topics(
    topics: Annotated[
        list[str],
        Query(
            description="Only these, separated by commas; may be repeated: a type (`job.state`), a type of one job "
            "(`job.metrics:JOB`), all of one job (`*:JOB`). None: everything."
        ),
    ] = [],  # noqa: B006
    job: Annotated[list[str], Query(description="The same as the topic `*:JOB`; may be repeated.", max_length=50)] = [],  # noqa: B006
) -> Topics:
    return parse_topics([*topics, *(f"{ALL}:{id}" for id in job)])


Followed = Annotated[Topics, Depends(_topics)]


def _place(
    request: Request,
    db: Db,
    me: Me,
    topics: Followed,
    after: Annotated[int, Query(ge=-1, le=MAX_ID, description="Start behind this event; -1: only new ones.")] = 0,
    last_event_id: LastEventId = None,
) -> int:
    """Dependency: the event id to start behind. Faults are answered before the stream begins."""
    after = last_seen(last_event_id, after)
    with db.read() as session:
        for job_id in topics.job_ids:
            existing_job(session, me, job_id)
    newest = _tip(request).place(fresh=True)
    return newest if after < 0 else after


def _tip(request: Request) -> Tip:
    tip: Tip = request.app.state.tip
    return tip


@router.get("/events", response_class=EventSourceResponse, summary="What happens, as server-sent events")
async def stream_events(
    request: Request, db: Db, me: Me, settings: Config, start: Annotated[int, Depends(_place)], topics: Followed
) -> AsyncIterator[ServerSentEvent]:
    """On a quiet stream a comment comes every few seconds, with the id up to which everything was looked at."""
    last, condition = start, topics.condition()

    def read(caller: Principal) -> Reading:
        nonlocal last
        upto = _tip(request).place()
        if upto <= last:
            return Reading([], more=False, place=last)
        with db.read() as session:
            events = service.between(session, caller, last, upto, condition, limit=service.BATCH)
        more = len(events) == service.BATCH
        last = events[-1].id if more else upto  # what is not followed is passed over once
        shown = [ServerSentEvent(id=str(event.id), data=event_out(event)) for event in events]
        return Reading(shown, more=more, place=last)

    async for event in follow(request, settings, me, read):
        yield event


@router.get("/jobs/{job_id}/events", summary="What happened to a job, oldest first")
def get_events(
    db: Db,
    me: Me,
    job_id: str,
    type: Annotated[
        list[str],
        Query(
            description="Only events of these types (`job.state`, `job.changed`, ...); may be repeated.", max_length=20
        ),
    ] = [],  # noqa: B006
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="`next` of the answer before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=service.BATCH)] = 200,
) -> EventsOut:
    with db.read() as session:
        existing_job(session, me, job_id)
        mine = Event.job_id == job_id
        wanted = and_(mine, Event.type.in_(type)) if type else mine
        events = service.between(session, me, after, service.settled(session), wanted, limit=limit)
    return EventsOut(items=[event_out(event) for event in events], next=events[-1].id if events else after)
