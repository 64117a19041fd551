"""What the API shows of an event."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from service.models import Event


class EventOut(BaseModel):
    """Something that happened. `data` depends on the type: for `job.state` from, to, cause and by (a user's name)."""

    id: int
    time: float
    type: str
    job_id: str | None
    actor: str = Field(description="user, dispatcher or worker.")
    data: dict[str, Any]


class EventsOut(BaseModel):
    items: list[EventOut]
    next: int = Field(description="Pass as `after` to read on.")


def event_out(event: Event) -> EventOut:
    return EventOut(
        id=event.id, time=event.time, type=event.type, job_id=event.job_id, actor=event.actor, data=event.data
    )
