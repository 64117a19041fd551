"""Decisions about users: people or robots, who hold no password."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.access import audit, repository
from service.access.principal import Principal
from service.access.schemas import UserIn, UserOut, UserPage, UserPatch, user_out
from service.db import Database
from service.errors import Problem
from service.models import User, new_id


def list_users(session: Session, me: Principal, *, limit: int, cursor: str | None) -> UserPage:
    """Raises `Problem` 403."""
    me.require_installation_admin()
    rows, following = repository.page(session, select(User), User.name, limit=limit, cursor=cursor)
    return UserPage(items=[user_out(row) for (row,) in rows], next_cursor=following)


def create(db: Database, me: Principal, new: UserIn) -> UserOut:
    """Raises `Problem` 403, or 409 when the name is taken."""
    me.require_installation_admin()
    row = User(id=new_id("user"), name=new.name, is_admin=new.is_admin, created_at=time.time())
    try:
        with db.write() as session:
            session.add(row)
            session.flush()
            audit.record(session, me, "user.create", row.name, data={"is_admin": new.is_admin})
    except IntegrityError:
        raise Problem(409, f"there is a user {new.name!r} already; choose another name") from None
    return user_out(row)


def change(session: Session, me: Principal, name: str, patch: UserPatch) -> UserOut:
    """Disable, enable, make or unmake an administrator. Raises `Problem` 403, 404, 409 for the last administrator."""
    me.require_installation_admin()
    able = {user.id for user in repository.enabled_admins(session)}
    row = existing(session, name, lock=True)
    changes: dict[str, Any] = {}
    if patch.is_admin is not None and patch.is_admin != row.is_admin:
        changes["is_admin"] = row.is_admin = patch.is_admin
    if patch.disabled is not None and patch.disabled != (row.disabled_at is not None):
        changes["disabled"] = patch.disabled
        row.disabled_at = time.time() if patch.disabled else None
    loses = not row.is_admin or row.disabled_at is not None
    if loses and able == {row.id}:
        raise Problem(409, f"{name} is the last administrator who can act; make another one first")
    if changes:
        audit.record(session, me, "user.update", row.name, data=changes)
    return user_out(row)


def existing(session: Session, name: str, *, lock: bool = False) -> User:
    """The user. Raises `Problem` 404."""
    row = repository.user(session, name, lock=lock)
    if row is None:
        raise Problem(404, f"there is no user {name!r}")
    return row
