"""Decisions about API tokens: who may make, see and revoke which."""

from __future__ import annotations

import time

from sqlalchemy import and_, or_, select, true
from sqlalchemy.orm import Session

from service.access import audit, repository
from service.access.principal import Principal, token_hash
from service.access.schemas import MeOut, NewTokenOut, TokenIn, TokenPage, token_out
from service.access.users import existing as existing_user
from service.auth import new_secret
from service.errors import Problem
from service.models import Project, Scope, Token, User, new_id


def describe(session: Session, me: Principal) -> MeOut:
    """Who the caller is. An administrator's roles are those of all projects."""
    found = repository.token(session, me.token_id)
    if found is None:
        raise Problem(401, "this API token is gone")
    projects = session.scalars(select(Project.id).where(me.visible(Project.id)).order_by(Project.id)).all()
    roles = {project: role for project in projects if (role := me.role_in(project)) is not None}
    return MeOut(user=me.name, is_admin=me.is_installation_admin, roles=roles, token=token_out(found[0], me.name))


def list_tokens(session: Session, me: Principal, *, user: str | None, limit: int, cursor: str | None) -> TokenPage:
    """The caller's own tokens and sessions, newest first; administrators name another user.

    A token sees what it could revoke: itself and those that may do no more than it. Raises `Problem` 403 or 404.
    """
    query = select(Token, User.name).join(User, User.id == Token.user_id)
    if user is not None and user != me.name:
        me.require_installation_admin()
        query = query.where(Token.user_id == existing_user(session, user).id)
    else:
        scopes = [scope.value for scope in Scope if me.scope_covers(scope)]
        within = true() if me.only_project is None else Token.project_id == me.only_project
        covered = and_(Token.scope.in_(scopes), within)
        query = query.where(Token.user_id == me.user_id, or_(covered, Token.id == me.token_id))
    rows, following = repository.page(session, query, Token.id, limit=limit, cursor=cursor, newest_first=True)
    return TokenPage(items=[token_out(row, name) for row, name in rows], next_cursor=following)


def create(session: Session, me: Principal, new: TokenIn) -> NewTokenOut:
    """A token that may do no more than the one that makes it, and that lives no longer.

    Raises `Problem` 403, 404 or 422.
    """
    now = time.time()
    me.require_scope(Scope.WRITE)  # who may only read leaves nothing behind
    me.require_scope(Scope(new.scope))
    if me.only_project is not None and new.project != me.only_project:
        raise Problem(403, f"this token is for project {me.only_project} alone; so must be the one that it makes")
    owner = _owner(session, me, new)
    if new.project is not None and (
        me.role_in(new.project) is None or repository.project(session, new.project) is None
    ):
        raise Problem(404, f"there is no project {new.project!r}")
    expires_at = _expiry(new, now)
    limit = _lifetime(session, me)
    if limit is not None and (expires_at is None or expires_at > limit):
        detail = f"this token ends at {limit:.0f} (Unix time) and cannot make one that lives longer; give expires_at"
        raise Problem(403, detail)
    secret = new_secret()
    row = Token(
        id=new_id("tok"), user_id=owner.id, type="api", name=new.name, sha256=token_hash(secret), scope=new.scope,
        project_id=new.project, created_at=now, expires_at=expires_at,
    )  # fmt: skip
    session.add(row)
    session.flush()
    data = {"user": owner.name, "name": new.name, "scope": new.scope, "expires_at": expires_at}
    audit.record(session, me, "token.create", row.id, project_id=new.project, data=data)
    return NewTokenOut(**token_out(row, owner.name).model_dump(), token=secret)


def revoke(session: Session, me: Principal, token_id: str) -> None:
    """End a token, or a session, and the sessions that were opened with it. Again changes nothing.

    Raises `Problem` 404 for what the caller cannot revoke.
    """
    found = repository.token(session, token_id, lock=True)
    if found is None or not _may_revoke(me, found[0]):
        raise Problem(404, f"there is no token {token_id!r}")
    row, owner = found
    if row.revoked_at is not None:
        return
    row.revoked_at = time.time()
    sessions = repository.sessions_opened_with(session, row.id)
    for one in sessions:
        one.revoked_at = row.revoked_at
    data = {"user": owner.name, "name": row.name, "sessions": len(sessions)}
    audit.record(session, me, "token.revoke", row.id, project_id=row.project_id, data=data)


def _owner(session: Session, me: Principal, new: TokenIn) -> User:
    name = new.user or me.name
    if name != me.name:
        me.require_installation_admin()
    user = existing_user(session, name)
    if user.disabled_at is not None:
        raise Problem(409, f"{name} is disabled; enable the user first")
    return user


def _expiry(new: TokenIn, now: float) -> float | None:
    if new.expires_in is not None and new.expires_at is not None:
        message = "give expires_in (seconds) or expires_at (Unix time), not both"
        raise Problem(422, message, errors=[("/expires_at", message)])
    if new.expires_at is not None and not now < new.expires_at < 1e11:
        message = "must be a Unix time in the future, in seconds"
        raise Problem(422, f"expires_at {message}", errors=[("/expires_at", message)])
    return now + new.expires_in if new.expires_in is not None else new.expires_at


def _lifetime(session: Session, me: Principal) -> float | None:
    """When the caller's token ends; of a browser's session: the token that it was opened with."""
    row = session.get(Token, me.token_id)
    if row is not None and row.type == "session":
        row = session.get(Token, row.name)
    return row.expires_at if row is not None else None


def _may_revoke(me: Principal, row: Token) -> bool:
    if row.id == me.token_id or me.is_installation_admin:
        return True
    covered = me.scope_covers(Scope(row.scope)) and me.only_project in (None, row.project_id)
    return row.user_id == me.user_id and covered
