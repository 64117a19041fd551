"""What the API takes and shows of webhooks and their deliveries."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from service.access.schemas import Body
from service.models import TERMINAL, JobState
from service.outbound import LONGEST_URL

Url = Annotated[str, Field(min_length=1, max_length=LONGEST_URL)]
States = Annotated[list[Annotated[JobState, Field(strict=False)]], Field(min_length=1, max_length=len(JobState))]
ENDS = sorted(TERMINAL)


class WebhookIn(Body):
    url: Url = Field(description="Where deliveries are sent: https:// or http://, a public host.")
    states: States = Field(ENDS, description="Told when a job enters one of these.")


class WebhookPatch(Body):
    """Only what is given changes."""

    url: Url | None = None
    states: States | None = None
    active: bool | None = Field(None, description="An inactive webhook is told nothing, nor later what it has missed.")


class DeliveryOut(BaseModel):
    """One event on its way to a webhook."""

    id: str = Field(description="The same in each try: header X-Bcd-Delivery.")
    event_id: int
    type: str = Field(description="job.state, or webhook.test.")
    job_id: str | None
    job_state: str | None
    state: str = Field(description="pending, delivered or failed.")
    tries: int
    next_at: float | None = Field(description="When it is tried again.")
    status: int | None = Field(description="HTTP status of the last answer.")
    error: str | None
    created_at: float
    ended_at: float | None


class DeliveryPage(BaseModel):
    items: list[DeliveryOut]
    next_cursor: str | None


class WebhookOut(BaseModel):
    id: str
    project: str
    url: str
    states: list[str]
    active: bool
    created_by: str
    created_at: float
    pending: int = Field(description="Deliveries that are on their way.")
    delivered_at: float | None = Field(description="When the last delivery arrived.")
    failing_since: float | None = Field(description="Nothing has arrived since; see its deliveries for why.")


class WebhooksOut(BaseModel):
    items: list[WebhookOut]


class NewWebhookOut(WebhookOut):
    secret: str = Field(description="The key of its signatures. It is shown this once.")
