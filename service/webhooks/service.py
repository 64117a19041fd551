"""Decisions about webhooks: who may have which, and what is shown of them. Deliveries are made in `deliver.py`."""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from service.access import audit
from service.access.principal import Principal
from service.errors import Problem
from service.events.service import newest_id
from service.models import Delivery, Event, Role, Webhook, new_id
from service.outbound import Allowed, NotAllowed, check_url
from service.settings import Settings
from service.webhooks import repository
from service.webhooks.schemas import (
    DeliveryOut,
    DeliveryPage,
    NewWebhookOut,
    WebhookIn,
    WebhookOut,
    WebhookPatch,
    WebhooksOut,
)
from service.webhooks.signature import secret_of

MOST = 20  # webhooks of a project
TEST = "webhook.test"  # type of the event that a test delivery is about


def list_webhooks(session: Session, me: Principal, project_id: str) -> WebhooksOut:
    """Raises `Problem` 404 or 403."""
    me.require(project_id, Role.ADMIN)
    return WebhooksOut(items=[_shown(session, hook) for hook in repository.of_project(session, project_id)])


def create(session: Session, settings: Settings, me: Principal, project_id: str, new: WebhookIn) -> NewWebhookOut:
    """Raises `Problem` 404, 403, 422 for an address that may not be reached, 409 when there are too many."""
    me.require(project_id, Role.ADMIN)
    host = _checked(settings, new.url)
    if repository.lock_project(session, project_id) is None:  # one at a time, so that the count is right
        raise Problem(404, f"there is no project {project_id!r}")
    if len(repository.of_project(session, project_id)) >= MOST:
        raise Problem(409, f"project {project_id!r} has {MOST} webhooks, the most there may be; delete one first")
    hook = Webhook(
        id=new_id("hook"), project_id=project_id, url=new.url, states=[state.value for state in new.states],
        active=True, created_by=me.name, created_at=time.time(), event_id=newest_id(session),
    )  # fmt: skip
    session.add(hook)
    session.flush()
    # An address may hold a secret of its receiver: the record names the host only.
    data = {"host": host, "states": hook.states}
    audit.record(session, me, "webhook.create", hook.id, project_id=project_id, data=data)
    return NewWebhookOut(**_shown(session, hook).model_dump(), secret=secret_of(settings, hook.id))


def change(session: Session, settings: Settings, me: Principal, webhook_id: str, patch: WebhookPatch) -> WebhookOut:
    """Raises `Problem` 404, 403 or 422."""
    hook = _existing(session, me, webhook_id, lock=True)
    changes: dict[str, object] = {}
    if patch.url is not None:
        changes["host"] = _checked(settings, patch.url)
        hook.url = patch.url
    if patch.states is not None:
        hook.states = changes["states"] = [state.value for state in patch.states]
    if patch.active is not None and patch.active != hook.active:
        hook.active = changes["active"] = patch.active
        hook.event_id = max(hook.event_id, newest_id(session))
    if changes:
        audit.record(session, me, "webhook.update", hook.id, project_id=hook.project_id, data=changes)
    return _shown(session, hook)


def remove(session: Session, me: Principal, webhook_id: str) -> None:
    """Raises `Problem` 404 or 403."""
    hook = _existing(session, me, webhook_id, lock=True)
    repository.delete_all(session, hook.id)
    session.delete(hook)
    audit.record(session, me, "webhook.delete", hook.id, project_id=hook.project_id)


def send_test(session: Session, me: Principal, webhook_id: str) -> DeliveryOut:
    """Send it a delivery by the way that all go. Raises `Problem` 404, 403, or 409 when it is not active."""
    hook = _existing(session, me, webhook_id)
    if not hook.active:
        raise Problem(409, f"webhook {hook.id} is not active; make it active first")
    now = time.time()
    data = {"webhook": hook.id, "by": me.name}
    event = Event(time=now, type=TEST, job_id=None, project_id=hook.project_id, actor="user", data=data)
    session.add(event)
    session.flush()
    delivery = Delivery(
        webhook_id=hook.id, event_id=event.id, state=repository.PENDING, tries=0, next_at=now, created_at=now
    )
    session.add(delivery)
    session.flush()
    return delivery_out(delivery, event)


def deliveries(session: Session, me: Principal, webhook_id: str, *, limit: int, before: int | None) -> DeliveryPage:
    """Raises `Problem` 404 or 403."""
    hook = _existing(session, me, webhook_id)
    rows = repository.page(session, hook.id, limit=limit + 1, before=before)
    following = str(rows[limit - 1][0].id) if len(rows) > limit else None
    return DeliveryPage(items=[delivery_out(*row) for row in rows[:limit]], next_cursor=following)


def delivery_id(webhook_id: str, event_id: int) -> str:
    """What a receiver tells repeats by: the same for each try, and also after a restore from a back-up."""
    return f"{webhook_id}.{event_id}"


def delivery_out(row: Delivery, event: Event | None) -> DeliveryOut:
    return DeliveryOut(
        id=delivery_id(row.webhook_id, row.event_id),
        event_id=row.event_id,
        type=event.type if event is not None else "gone",
        job_id=event.job_id if event is not None else None,
        job_state=event.data.get("to") if event is not None else None,
        state=row.state,
        tries=row.tries,
        next_at=row.next_at if row.state == repository.PENDING else None,
        status=row.status,
        error=row.error,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def _existing(session: Session, me: Principal, webhook_id: str, *, lock: bool = False) -> Webhook:
    missing = Problem(404, f"there is no webhook {webhook_id!r}")
    hook = session.get(Webhook, webhook_id, with_for_update=True if lock else None)
    if hook is None:
        raise missing
    me.require(hook.project_id, Role.ADMIN, hidden=missing)
    return hook


def _checked(settings: Settings, url: str) -> str:
    """The host of an address that may be used. Names are resolved when they are called, not here."""
    try:
        return check_url(url, Allowed.read(settings.webhook_allow)).host
    except NotAllowed as error:
        raise Problem(422, f"url: {error}", errors=[("/url", str(error))]) from None


def _shown(session: Session, hook: Webhook) -> WebhookOut:
    pending, delivered_at, failing_since = repository.standing(session, hook.id)
    return WebhookOut(
        id=hook.id, project=hook.project_id, url=hook.url, states=hook.states, active=hook.active,
        created_by=hook.created_by, created_at=hook.created_at, pending=pending, delivered_at=delivered_at,
        failing_since=failing_since,
    )  # fmt: skip
