"""The event stream (server-sent events), and the history of one job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service.access.principal import Me, Principal
from service.deps import Config, Db
from service.events import service
from service.events.follow import LastEventId, Reading, follow, last_seen
from service.events.schemas import EventsOut, event_out
from service.jobs.service import existing as existing_job

router = APIRouter(tags=["events"])

MAX_ID = 2**63 - 1


def _place(
    db: Db,
    me: Me,
    job: Annotated[list[str], Query(description="Only events of these jobs; may be repeated.", max_length=50)] = [],  # noqa: B006
    after: Annotated[int, Query(ge=-1, le=MAX_ID, description="Start behind this event; -1: only new ones.")] = 0,
    last_event_id: LastEventId = None,
) -> int:
    """Dependency: the event id to start behind. Faults are answered before the stream begins."""
    after = last_seen(last_event_id, after)
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
    last = start

    def read(caller: Principal) -> Reading:
        nonlocal last
        with db.read() as session:
            events = service.after(session, caller, last, job)
        last = events[-1].id if events else last
        shown = [ServerSentEvent(id=str(event.id), data=event_out(event)) for event in events]
        return Reading(shown, more=len(events) == service.BATCH)

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
        events = service.after(session, me, after, [job_id], types=type, limit=limit)
    return EventsOut(items=[event_out(event) for event in events], next=events[-1].id if events else after)
