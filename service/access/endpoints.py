"""HTTP routes of projects, their members, users, tokens, and the audit record."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from service.access import audit, projects, tokens, users
from service.access.principal import Me
from service.access.schemas import (
    AuditPage,
    MemberIn,
    MemberOut,
    MemberPage,
    MeOut,
    NewTokenOut,
    ProjectIn,
    ProjectOut,
    ProjectPage,
    ProjectPatch,
    TokenIn,
    TokenPage,
    UserIn,
    UserOut,
    UserPage,
    UserPatch,
    audit_out,
)
from service.bodies import documented, read_as
from service.deps import Db

router = APIRouter(tags=["access"])

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")]


@router.get("/me", summary="Who this token is, and what it may do")
def get_me(db: Db, me: Me) -> MeOut:
    with db.read() as session:
        return tokens.describe(session, me)


@router.get("/projects", summary="Projects that the caller may look at")
def list_projects(db: Db, me: Me, limit: Limit = 50, cursor: Cursor = None) -> ProjectPage:
    with db.read() as session:
        return projects.list_projects(session, me, limit=limit, cursor=cursor)


@router.post("/projects", status_code=201, openapi_extra=documented(ProjectIn), summary="Make a project")
def create_project(db: Db, me: Me, new: Annotated[ProjectIn, Depends(read_as(ProjectIn))]) -> ProjectOut:
    return projects.create(db, me, new)


@router.get("/projects/{project_id}", summary="One project")
def get_project(db: Db, me: Me, project_id: str) -> ProjectOut:
    with db.read() as session:
        return projects.show(session, me, project_id)


@router.patch(
    "/projects/{project_id}", openapi_extra=documented(ProjectPatch), summary="Change its description or its quotas"
)
def change_project(
    db: Db, me: Me, project_id: str, patch: Annotated[ProjectPatch, Depends(read_as(ProjectPatch))]
) -> ProjectOut:
    with db.write() as session:
        return projects.change(session, me, project_id, patch)


@router.get("/projects/{project_id}/members", summary="Who may do what in a project")
def list_members(db: Db, me: Me, project_id: str, limit: Limit = 50, cursor: Cursor = None) -> MemberPage:
    with db.read() as session:
        return projects.list_members(session, me, project_id, limit=limit, cursor=cursor)


@router.put(
    "/projects/{project_id}/members/{user}",
    openapi_extra=documented(MemberIn),
    summary="Make a user a member, or other",
)
def set_member(
    db: Db, me: Me, project_id: str, user: str, given: Annotated[MemberIn, Depends(read_as(MemberIn))]
) -> MemberOut:
    with db.write() as session:
        return projects.set_member(session, me, project_id, user, given)


@router.delete("/projects/{project_id}/members/{user}", status_code=204, summary="Take a member out")
def remove_member(db: Db, me: Me, project_id: str, user: str) -> Response:
    with db.write() as session:
        projects.remove_member(session, me, project_id, user)
    return Response(status_code=204)


@router.get("/users", summary="All users")
def list_users(db: Db, me: Me, limit: Limit = 50, cursor: Cursor = None) -> UserPage:
    with db.read() as session:
        return users.list_users(session, me, limit=limit, cursor=cursor)


@router.post("/users", status_code=201, openapi_extra=documented(UserIn), summary="Make a user")
def create_user(db: Db, me: Me, new: Annotated[UserIn, Depends(read_as(UserIn))]) -> UserOut:
    return users.create(db, me, new)


@router.patch(
    "/users/{user}", openapi_extra=documented(UserPatch), summary="Disable or enable a user, or make them administrator"
)
def change_user(db: Db, me: Me, user: str, patch: Annotated[UserPatch, Depends(read_as(UserPatch))]) -> UserOut:
    with db.write() as session:
        return users.change(session, me, user, patch)


@router.get("/tokens", summary="One's own tokens and sessions")
def list_tokens(
    db: Db,
    me: Me,
    user: Annotated[str | None, Query(max_length=100, description="Another user's (administrators only).")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> TokenPage:
    with db.read() as session:
        return tokens.list_tokens(session, me, user=user, limit=limit, cursor=cursor)


@router.post("/tokens", status_code=201, openapi_extra=documented(TokenIn), summary="Make a token; it is shown once")
def create_token(db: Db, me: Me, new: Annotated[TokenIn, Depends(read_as(TokenIn))]) -> NewTokenOut:
    with db.write() as session:
        return tokens.create(session, me, new)


@router.delete("/tokens/{token_id}", status_code=204, summary="Revoke a token")
def revoke_token(db: Db, me: Me, token_id: str) -> Response:
    with db.write() as session:
        tokens.revoke(session, me, token_id)
    return Response(status_code=204)


@router.get("/audit", summary="Who did or tried what, newest first (administrators; of a project: theirs)")
def list_audit(
    db: Db,
    me: Me,
    action: Annotated[str | None, Query(max_length=50, description="Such as token.create.")] = None,
    actor: Annotated[str | None, Query(max_length=100, description="Name of a user.")] = None,
    target: Annotated[str | None, Query(max_length=200)] = None,
    project: Annotated[str | None, Query(max_length=40)] = None,
    since: Annotated[float | None, Query(allow_inf_nan=False, description="Unix time, included.")] = None,
    until: Annotated[float | None, Query(allow_inf_nan=False, description="Unix time, not included.")] = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="As of all lists.")] = None,
) -> AuditPage:
    with db.read() as session:
        rows = audit.page(
            session, me, limit=limit + 1, before=None if cursor is None else int(cursor), action=action, actor=actor,
            target=target, project=project, since=since, until=until,
        )  # fmt: skip
    following = str(rows[limit - 1].id) if len(rows) > limit else None
    return AuditPage(items=[audit_out(row) for row in rows[:limit]], next_cursor=following)
