"""HTTP routes of webhooks. They belong to a project and are its administrators' business."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from service.access.principal import Me
from service.bodies import documented, read_as
from service.deps import Config, Db
from service.webhooks import service
from service.webhooks.schemas import (
    DeliveryOut,
    DeliveryPage,
    NewWebhookOut,
    WebhookIn,
    WebhookOut,
    WebhookPatch,
    WebhooksOut,
)

router = APIRouter(tags=["webhooks"])


@router.get("/projects/{project_id}/webhooks", summary="The webhooks of a project, and how they fare")
def list_webhooks(db: Db, me: Me, project_id: str) -> WebhooksOut:
    with db.read() as session:
        return service.list_webhooks(session, me, project_id)


@router.post(
    "/projects/{project_id}/webhooks",
    status_code=201,
    openapi_extra=documented(WebhookIn),
    summary="Have an address told when jobs change; its key is shown once",
)
def create_webhook(
    db: Db, me: Me, settings: Config, project_id: str, new: Annotated[WebhookIn, Depends(read_as(WebhookIn))]
) -> NewWebhookOut:
    with db.write() as session:
        return service.create(session, settings, me, project_id, new)


@router.patch(
    "/webhooks/{webhook_id}", openapi_extra=documented(WebhookPatch), summary="Change a webhook, or switch it off"
)
def change_webhook(
    db: Db, me: Me, settings: Config, webhook_id: str, patch: Annotated[WebhookPatch, Depends(read_as(WebhookPatch))]
) -> WebhookOut:
    with db.write() as session:
        return service.change(session, settings, me, webhook_id, patch)


@router.delete("/webhooks/{webhook_id}", status_code=204, summary="Remove a webhook with its deliveries")
def remove_webhook(db: Db, me: Me, webhook_id: str) -> Response:
    with db.write() as session:
        service.remove(session, me, webhook_id)
    return Response(status_code=204)


@router.post("/webhooks/{webhook_id}/test", status_code=202, summary="Send it a delivery now; see its deliveries")
def test_webhook(db: Db, me: Me, webhook_id: str) -> DeliveryOut:
    with db.write() as session:
        return service.send_test(session, me, webhook_id)


@router.get("/webhooks/{webhook_id}/deliveries", summary="What was sent, newest first, and what became of it")
def list_deliveries(
    db: Db,
    me: Me,
    webhook_id: str,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="As of all lists.")] = None,
) -> DeliveryPage:
    before = None if cursor is None else int(cursor)
    with db.read() as session:
        return service.deliveries(session, me, webhook_id, limit=limit, before=before)
