"""Queries about projects, users and tokens. No decisions, no commits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from service.models import Membership, Project, Token, User


def page(
    session: Session,
    query: Select[*tuple[Any, ...]],
    key: Any,
    *,
    limit: int,
    cursor: str | None,
    newest_first: bool = False,
) -> tuple[list[Any], str | None]:
    """Rows of a query in the order of a unique text, and the text to go on behind (None: that was all)."""
    if cursor is not None:
        query = query.where(key < cursor if newest_first else key > cursor)
    query = query.order_by(key.desc() if newest_first else key).limit(limit + 1).add_columns(key)
    rows = session.execute(query).all()
    return [row[:-1] for row in rows[:limit]], rows[limit - 1][-1] if len(rows) > limit else None


def project(session: Session, project_id: str, *, lock: bool = False) -> Project | None:
    return session.get(Project, project_id, with_for_update=True if lock else None)


def user(session: Session, name: str, *, lock: bool = False) -> User | None:
    query = select(User).where(User.name == name)
    return session.scalar(query.with_for_update() if lock else query)


def enabled_admins(session: Session) -> list[User]:
    """The administrators who could act now, locked, so that no two of them can disable each other at once."""
    query = select(User).where(User.is_admin, User.disabled_at.is_(None)).order_by(User.id).with_for_update()
    return list(session.scalars(query.execution_options(populate_existing=True)))


def membership(session: Session, project_id: str, user_id: str) -> Membership | None:
    return session.get(Membership, (project_id, user_id), with_for_update=True)


def token(session: Session, token_id: str, *, lock: bool = False) -> tuple[Token, User] | None:
    """A token with its user."""
    row = session.get(Token, token_id, with_for_update=True if lock else None)
    owner = session.get(User, row.user_id) if row is not None else None
    return None if row is None or owner is None else (row, owner)


def sessions_opened_with(session: Session, token_id: str) -> list[Token]:
    """The browsers' sessions of a token, which is their name."""
    query = select(Token).where(Token.type == "session", Token.name == token_id, Token.revoked_at.is_(None))
    return list(session.scalars(query))
