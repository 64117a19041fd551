"""Who calls, and what they may do. Every read of a project's things goes through `Principal.visible` or `require`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session

from service.errors import Problem
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
        if not self.is_admin or self.scope is not Scope.ADMIN or self.only_project is not None:
            raise Problem(403, "this takes an administrator's token of scope admin")

    def visible(self, column: Any) -> ColumnElement[bool]:
        """The condition that a project id column names a project which the caller may look at."""
        if self.only_project is not None:
            allowed = [self.only_project] if self.role_in(self.only_project) is not None else []
        elif self.is_admin:
            return true()
        else:
            allowed = sorted(self.roles or {})
        condition: ColumnElement[bool] = column.in_(allowed)
        return condition


def token_hash(secret: str) -> str:
    """What is stored of a token. Tokens are long random texts, so a plain hash cannot be reversed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def lookup(session: Session, secret: str, *, now: float) -> tuple[Principal, Token] | None:
    """The caller behind a secret; None when it is unknown, expired, revoked, or its user is disabled."""
    query = select(Token, User).join(User, User.id == Token.user_id).where(Token.sha256 == token_hash(secret))
    found = session.execute(query).one_or_none()
    if found is None:
        return None
    token, user = found
    ended = token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= now)
    if ended or user.disabled_at is not None:
        return None
    roles = session.execute(select(Membership.project_id, Membership.role).where(Membership.user_id == user.id))
    principal = Principal(
        user_id=user.id,
        name=user.name,
        token_id=token.id,
        scope=Scope(token.scope),
        is_admin=user.is_admin,
        roles={project: Role(role) for project, role in roles},
        only_project=token.project_id,
    )
    return principal, token


def principal(request: Request, given: _Given) -> Principal:
    """Dependency: the caller, else 401."""
    db = request.app.state.db
    now = time.time()
    found = None
    if given is not None and given.credentials:
        with db.read() as session:
            found = lookup(session, given.credentials, now=now)
    if found is None:
        raise Problem(
            401,
            "the API token is missing, wrong, expired or revoked; send `Authorization: Bearer <token>` (the first "
            "one is in the file run/api-token of the installation's home folder)",
            headers={"WWW-Authenticate": "Bearer"},
        )
    who, token = found
    if token.last_used_at is None or now - token.last_used_at > USED_EVERY:
        with db.write() as session:
            row = session.get(Token, token.id)
            if row is not None:
                row.last_used_at = now
    return who


Me = Annotated[Principal, Depends(principal)]
