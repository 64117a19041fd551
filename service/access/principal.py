"""Who calls, and what they may do. Every read of a project's things goes through `Principal.visible` or `require`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NoReturn

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session

from bcd.spec import JobSpec, path_faults
from service.access import audit, context
from service.access.origin import COOKIE, refuse_cross_site
from service.db import Database
from service.errors import INVALID_SPEC, Problem
from service.models import Membership, Role, Scope, Token, User

_bearer = HTTPBearer(auto_error=False, description="An API token of a user.")
_Given = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
_ORDER = (Role.VIEWER, Role.EDITOR, Role.ADMIN)
_MOST = {Scope.READ: Role.VIEWER, Scope.WRITE: Role.EDITOR, Scope.ADMIN: Role.ADMIN}
USED_EVERY = 60.0  # seconds between two notes of a token's last use


@dataclass(frozen=True)
class Principal:
    """A user as one token lets them act. `roles` by project; an administrator of the installation has all of them."""

    user_id: str
    name: str
    token_id: str
    scope: Scope
    is_admin: bool = False
    roles: Mapping[str, Role] | None = None
    only_project: str | None = None  # a token may be for one project
    token_type: str = "api"  # or session: a browser's
    data_roots: tuple[str, ...] = ()  # the only folders that their specs may read from; none: all

    @property
    def is_installation_admin(self) -> bool:
        return self.is_admin and self.scope is Scope.ADMIN and self.only_project is None

    def role_in(self, project_id: str) -> Role | None:
        """The role in a project, capped by the token; None: the project does not exist for this caller."""
        if self.only_project is not None and project_id != self.only_project:
            return None
        role = Role.ADMIN if self.is_admin else (self.roles or {}).get(project_id)
        return None if role is None else min(role, _MOST[self.scope], key=_ORDER.index)

    def may(self, project_id: str, role: Role) -> bool:
        have = self.role_in(project_id)
        return have is not None and _ORDER.index(have) >= _ORDER.index(role)

    def require(self, project_id: str, role: Role, *, hidden: Problem | None = None) -> None:
        """Raises `hidden` (default: 404 of the project) where the caller may not even look, 403 where not do this."""
        have = self.role_in(project_id)
        if have is None:
            raise hidden or Problem(404, f"there is no project {project_id!r}")
        if not self.may(project_id, role):
            limit = "this token's scope" if _MOST[self.scope] == have else f"your role in project {project_id!r}"
            raise Problem(403, f"{limit} lets you act as {have}, and this takes {role}; ask for {role}")

    def require_installation_admin(self) -> None:
        """Raises `Problem` 403 unless the caller runs the whole installation."""
        if not self.is_installation_admin:
            raise Problem(403, "this takes an administrator's token of scope admin")

    def require_scope(self, scope: Scope) -> None:
        """Raises `Problem` 403 where the token lets its user do less."""
        if not self.scope_covers(scope):
            raise Problem(403, f"this token's scope is {self.scope}, and this takes {scope}; use another token")

    def scope_covers(self, scope: Scope) -> bool:
        order = list(Scope)
        return order.index(self.scope) >= order.index(scope)

    def require_paths(self, spec: JobSpec) -> None:
        """Raises `Problem` 422 for a spec that names files where the installation does not let anyone read."""
        if faults := path_faults(spec, self.data_roots):
            pointer, message = faults[0]
            detail = f"the job spec cannot be used: {pointer}: {message}"
            raise Problem(422, detail, type=INVALID_SPEC, errors=faults)

    def visible(self, column: Any) -> ColumnElement[bool]:
        """The condition that a project id column names a project which the caller may look at."""
        if self.is_admin and self.only_project is None:
            return true()
        condition: ColumnElement[bool] = column.in_(self.projects_as(Role.VIEWER))
        return condition

    def projects_as(self, role: Role) -> list[str]:
        """The projects that the token or a membership names and in which the caller has at least this role."""
        named = sorted(self.roles or {}) if self.only_project is None else [self.only_project]
        return [project for project in named if self.may(project, role)]


def token_hash(secret: str) -> str:
    """What is stored of a token. Tokens are long random texts, so a plain hash cannot be reversed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Found:
    """A token that exists, and why it lets nobody in any more (None: it does)."""

    me: Principal
    token: Token
    ended: str | None


def lookup(session: Session, secret: str, *, type: Literal["api", "session"] = "api", now: float) -> Found | None:
    """Whose secret this is; None when it is unknown. Found by its hash: how long that takes tells nothing of it."""
    return _found(session, Token.sha256 == token_hash(secret), Token.type == type, now=now)


def still(session: Session, me: Principal) -> Principal | None:
    """The caller as they are now; None when the token has ended meanwhile. For answers that last, such as streams."""
    found = _found(session, Token.id == me.token_id, now=time.time())
    return found.me if found is not None and found.ended is None else None


def _found(session: Session, *which: ColumnElement[bool], now: float) -> Found | None:
    found = session.execute(select(Token, User).join(User, User.id == Token.user_id).where(*which)).one_or_none()
    if found is None:
        return None
    token, user = found
    roles = session.execute(select(Membership.project_id, Membership.role).where(Membership.user_id == user.id))
    me = Principal(
        user_id=user.id,
        name=user.name,
        token_id=token.id,
        scope=Scope(token.scope),
        is_admin=user.is_admin,
        roles={project: Role(role) for project, role in roles},
        only_project=token.project_id,
        token_type=token.type,
    )
    return Found(me, token, _why_ended(token, user, now))


def _why_ended(token: Token, user: User, now: float) -> str | None:
    if token.revoked_at is not None:
        return "was revoked"
    if token.expires_at is not None and token.expires_at <= now:
        return "has expired"
    return "belongs to a user who is disabled" if user.disabled_at is not None else None


def principal(request: Request, given: _Given) -> Principal:
    """Dependency: the caller by bearer token, else by a browser's session; else `Problem` 401, 403 or 429."""
    state, call = request.app.state, context.current()
    address, now = call.address if call is not None else None, time.time()
    cookie = request.cookies.get(COOKIE)
    if given is not None and given.credentials:
        found = _read(state.db, given.credentials, "api", now)
    elif cookie:
        found = _read(state.db, cookie, "session", now)
    else:
        state.limits.anonymous(address)
        _refuse("the API token is missing")
    if found is None:
        state.limits.failure(address)
        _refuse("the API token is wrong")
    if found.ended is not None:
        state.limits.token(found.token.id)
        if state.limits.notes_ended(found.token.id):
            with state.db.write() as session:
                data = {"why": found.ended, "path": request.url.path[:500]}
                audit.record(session, found.me, "token.refused", found.token.id, data=data)
        _refuse(f"this API token {found.ended}")
    me = replace(found.me, data_roots=state.settings.data_roots)
    if call is not None:
        call.me = me
    if me.token_type == "session":
        refuse_cross_site(request)
    state.limits.token(me.token_id)
    _note_use(state.db, found.token, now, state.settings.session_seconds)
    return me


def _read(db: Database, secret: str, type: Literal["api", "session"], now: float) -> Found | None:
    with db.read() as session:
        return lookup(session, secret, type=type, now=now)


def _refuse(why: str) -> NoReturn:
    raise Problem(
        401,
        f"{why}; send `Authorization: Bearer <token>` (the first one is in the file run/api-token of the "
        "installation's home folder)",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _note_use(db: Database, token: Token, now: float, session_seconds: float) -> None:
    """Keep the time of the last use, and a browser's session alive; not at every request."""
    if token.last_used_at is not None and now - token.last_used_at <= USED_EVERY:
        return
    with db.write() as session:
        row = session.get(Token, token.id)
        if row is not None:
            row.last_used_at = now
            if row.type == "session":
                row.expires_at = session_end(session, row, now, session_seconds)


def session_end(session: Session, row: Token, now: float, seconds: float) -> float:
    """When a browser's session ends from now on: never later than the token that it was opened with (its name)."""
    opened_with = session.get(Token, row.name)
    limit = opened_with.expires_at if opened_with is not None else None
    return now + seconds if limit is None else min(now + seconds, limit)


Me = Annotated[Principal, Depends(principal)]
