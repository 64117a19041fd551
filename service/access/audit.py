"""The record of who did or tried what. Rows are added here and nowhere changed or removed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, true
from sqlalchemy.orm import Session

from service.access import context
from service.errors import Problem
from service.models import Audit, Role

if TYPE_CHECKING:
    from service.access.principal import Principal

NOBODY = "-"  # the actor where no user is known


def record(
    session: Session,
    me: Principal | None,
    action: str,
    target: str,
    *,
    project_id: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Note an action (`token.create`) on a target (an id or a name); the caller commits it with what was done.

    Address and request id are those of the request that is being answered. `data` holds what changed, never a secret.
    """
    call = context.current()
    session.add(
        Audit(
            time=time.time(),
            actor=me.name if me is not None else NOBODY,
            token_id=(me.token_id or None) if me is not None else None,  # none: for a sweep
            action=action,
            target=target[:200],
            project_id=project_id,
            address=(call.address or "")[:64] or None if call is not None else None,
            request_id=call.request_id[:64] if call is not None else None,
            data=data or {},
        )
    )


def page(
    session: Session,
    me: Principal,
    *,
    limit: int,
    before: int | None = None,
    action: str | None = None,
    actor: str | None = None,
    target: str | None = None,
    project: str | None = None,
    since: float | None = None,
    until: float | None = None,
) -> list[Audit]:
    """Rows that the caller may read, newest first, older than row `before`.

    An administrator of the installation reads all, one of projects theirs. Raises `Problem` 403 for others, 404 for
    a project that the caller does not see.
    """
    query = select(Audit).where(_readable(me)).order_by(Audit.id.desc()).limit(limit)
    if project is not None:
        me.require(project, Role.ADMIN)
        query = query.where(Audit.project_id == project)
    for column, value in ((Audit.action, action), (Audit.actor, actor), (Audit.target, target)):
        if value is not None:
            query = query.where(column == value)
    if before is not None:
        query = query.where(Audit.id < before)
    if since is not None:
        query = query.where(Audit.time >= since)
    if until is not None:
        query = query.where(Audit.time < until)
    return list(session.scalars(query))


def _readable(me: Principal) -> Any:
    if me.is_installation_admin:
        return true()
    projects = me.projects_as(Role.ADMIN)
    if not projects:
        raise Problem(403, "the audit record is for administrators of the installation or of a project")
    return Audit.project_id.in_(projects)
