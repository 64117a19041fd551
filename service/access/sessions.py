"""Sessions of browsers: opened with an API token, kept as a cookie that no script can read."""

from __future__ import annotations

import time

from sqlalchemy import delete
from sqlalchemy.orm import Session

from service.access import audit, context
from service.access.limits import RateLimits
from service.access.principal import Principal, lookup, session_end, token_hash
from service.access.schemas import SessionOut
from service.auth import new_secret
from service.db import Database
from service.errors import Problem
from service.models import Token, new_id

KEPT = 30 * 24 * 3600.0  # seconds for which ended sessions are listed


def open_session(db: Database, limits: RateLimits, secret: str, *, seconds: float) -> tuple[SessionOut, str]:
    """A session for whoever holds this API token, and the secret of its cookie.

    The session may do what the token may, and ends with it. Raises `Problem` 401, or 429 after many wrong ones.
    """
    now = time.time()
    with db.write() as session:
        found = lookup(session, secret, now=now)
        if found is not None and found.ended is None:
            return _insert(session, found.me, found.token, now, seconds)
        why = found.ended if found is not None else "is not known"
        # Before the row is written: guesses beyond the limit leave none.
        call = context.current()
        limits.failure(call.address if call is not None else None)
        me = found.me if found is not None else None
        audit.record(session, me, "login.refused", me.token_id if me else "session", data={"why": why})
    raise Problem(401, f"this API token {why}; give one that is valid", headers={"WWW-Authenticate": "Bearer"})


def _insert(session: Session, me: Principal, opened_with: Token, now: float, seconds: float) -> tuple[SessionOut, str]:
    # Locked: a token that is being revoked ends its sessions, so none may slip in behind it.
    session.refresh(opened_with, with_for_update=True)
    if opened_with.revoked_at is not None:
        raise Problem(401, "this API token was revoked; give one that is valid")
    gone = (Token.type == "session", Token.user_id == me.user_id, Token.expires_at < now - KEPT)
    session.execute(delete(Token).where(*gone))
    secret = new_secret("bcs")
    row = Token(
        id=new_id("tok"), user_id=me.user_id, type="session", name=opened_with.id, sha256=token_hash(secret),
        scope=me.scope.value, project_id=me.only_project, created_at=now, last_used_at=now,
    )  # fmt: skip
    row.expires_at = session_end(session, row, now, seconds)
    opened_with.last_used_at = now
    session.add(row)
    session.flush()
    audit.record(session, me, "session.open", row.id)
    return _shown(me, row), secret


def renew(session: Session, me: Principal, *, seconds: float) -> SessionOut:
    """The caller's session, which lives on from now. Raises `Problem` 404 for a caller by bearer token."""
    row = session.get(Token, me.token_id, with_for_update=True)
    if row is None or row.type != "session":
        raise Problem(404, "this call carries no browser's session; see /me for a token")
    row.expires_at = session_end(session, row, time.time(), seconds)
    return _shown(me, row)


def close(session: Session, secret: str) -> None:
    """End a session; nothing happens where there is none."""
    found = lookup(session, secret, type="session", now=time.time())
    if found is not None and found.ended is None:
        found.token.revoked_at = time.time()
        audit.record(session, found.me, "session.close", found.token.id)


def _shown(me: Principal, row: Token) -> SessionOut:
    return SessionOut(
        user=me.name, is_admin=me.is_installation_admin, scope=me.scope, project=me.only_project,
        expires_at=row.expires_at,
    )  # fmt: skip
