"""Queries about webhooks and deliveries. No decisions, no commits."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.models import Delivery, Event, Project, Webhook

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"


def of_project(session: Session, project_id: str) -> Sequence[Webhook]:
    return session.scalars(
        select(Webhook).where(Webhook.project_id == project_id).order_by(Webhook.created_at, Webhook.id)
    ).all()


def lock_project(session: Session, project_id: str) -> Project | None:
    return session.get(Project, project_id, with_for_update=True)


def active(session: Session) -> Sequence[Webhook]:
    return session.scalars(select(Webhook).where(Webhook.active.is_(True)).order_by(Webhook.id)).all()


def insert(session: Session, webhook_id: str, event_ids: Sequence[int], *, now: float) -> None:
    """Deliveries of these events, where there are none yet."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    rows = [
        {
            "webhook_id": webhook_id,
            "event_id": event_id,
            "state": PENDING,
            "tries": 0,
            "next_at": now,
            "created_at": now,
        }
        for event_id in event_ids
    ]
    statement = dialect.insert(Delivery).on_conflict_do_nothing(index_elements=["webhook_id", "event_id"])
    session.connection().execute(statement, rows)


def due(session: Session, *, now: float) -> Sequence[tuple[str, str]]:
    """Active webhooks with deliveries to try, and their projects; the one that has waited longest first."""
    query = (
        select(Webhook.id, Webhook.project_id)
        .join(Delivery, Delivery.webhook_id == Webhook.id)
        .where(Webhook.active.is_(True), Delivery.state == PENDING, Delivery.next_at <= now)
        .group_by(Webhook.id, Webhook.project_id)
        .order_by(func.min(Delivery.next_at))
    )
    return [(webhook, project) for webhook, project in session.execute(query)]


def next_due(session: Session, webhook_id: str, *, now: float) -> tuple[Delivery, Webhook, Event | None] | None:
    """The oldest delivery to try now, locked, with its webhook and event."""
    query = (
        select(Delivery)
        .where(Delivery.webhook_id == webhook_id, Delivery.state == PENDING, Delivery.next_at <= now)
        .order_by(Delivery.event_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = session.scalar(query)
    hook = session.get(Webhook, webhook_id)
    if row is None or hook is None or not hook.active:
        return None
    return row, hook, session.get(Event, row.event_id)


def page(
    session: Session, webhook_id: str, *, limit: int, before: int | None
) -> Sequence[tuple[Delivery, Event | None]]:
    """Deliveries with their events, newest first."""
    query = select(Delivery, Event).outerjoin(Event, Event.id == Delivery.event_id)
    query = query.where(Delivery.webhook_id == webhook_id).order_by(Delivery.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Delivery.id < before)
    return [(delivery, event) for delivery, event in session.execute(query)]


def standing(session: Session, webhook_id: str) -> tuple[int, float | None, float | None]:
    """Pending deliveries; when the last one arrived; the time of the first that failed since, None where none has."""
    mine = Delivery.webhook_id == webhook_id
    pending = session.scalar(select(func.count()).where(mine, Delivery.state == PENDING)) or 0
    last = select(Delivery).where(mine, Delivery.state == DELIVERED).order_by(Delivery.id.desc()).limit(1)
    arrived = session.scalar(last)
    failed = select(func.min(Delivery.created_at)).where(mine, Delivery.error.is_not(None))
    if arrived is not None:
        failed = failed.where(Delivery.id > arrived.id)
    return pending, arrived.ended_at if arrived is not None else None, session.scalar(failed)


def delete_all(session: Session, webhook_id: str) -> None:
    session.execute(delete(Delivery).where(Delivery.webhook_id == webhook_id))


def delete_old(session: Session, *, before: float) -> None:
    session.execute(delete(Delivery).where(Delivery.state != PENDING, Delivery.ended_at < before))
