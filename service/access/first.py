"""What a new installation begins with: the project `default`, the user `admin`, and the token in run/api-token."""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.access import audit
from service.access.principal import token_hash
from service.auth import owner_token
from service.db import Database
from service.models import DEFAULT_PROJECT, Project, Scope, Token, User, new_id
from service.settings import Settings

FIRST_USER = "admin"


def ensure_first(db: Database, settings: Settings) -> None:
    """Make them where they are missing; safe when several processes start at once.

    A token file that the database does not know (a fresh database, or a file that was removed to get a new token)
    becomes a token of `admin`, who is then an enabled administrator again: whoever owns the home folder cannot lock
    themselves out. A token that was revoked stays so.
    """
    secret = owner_token(settings)
    with db.write() as session:
        _lock(session)
        if session.get(Project, DEFAULT_PROJECT) is None:
            session.add(Project(id=DEFAULT_PROJECT, created_at=time.time()))
        user = session.scalar(select(User).where(User.name == FIRST_USER))
        if user is None:
            user = User(id=new_id("user"), name=FIRST_USER, is_admin=True, created_at=time.time())
            session.add(user)
            session.flush()
        if session.scalar(select(Token.id).where(Token.sha256 == token_hash(secret))) is None:
            user.is_admin, user.disabled_at = True, None
            token = Token(
                id=new_id("tok"), user_id=user.id, type="api", name="first token", sha256=token_hash(secret),
                scope=Scope.ADMIN.value, created_at=time.time(),
            )  # fmt: skip
            session.add(token)
            audit.record(session, None, "token.create", token.id, data={"user": user.name, "from": "run/api-token"})


def _lock(session: Session) -> None:
    """One process at a time: `default` is the row that every installation has (migrations make it)."""
    session.get(Project, DEFAULT_PROJECT, with_for_update=True)
