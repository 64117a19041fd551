"""Decisions about projects and their members."""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.access import audit, repository
from service.access.principal import Principal
from service.access.schemas import (
    MemberIn,
    MemberOut,
    MemberPage,
    ProjectIn,
    ProjectOut,
    ProjectPage,
    ProjectPatch,
    project_out,
)
from service.access.users import existing as existing_user
from service.db import Database
from service.errors import Problem
from service.models import Membership, Project, Role, User


def list_projects(session: Session, me: Principal, *, limit: int, cursor: str | None) -> ProjectPage:
    query = select(Project).where(me.visible(Project.id))
    rows, following = repository.page(session, query, Project.id, limit=limit, cursor=cursor)
    return ProjectPage(items=[project_out(row, me.role_in(row.id)) for (row,) in rows], next_cursor=following)


def show(session: Session, me: Principal, project_id: str) -> ProjectOut:
    """Raises `Problem` 404."""
    return project_out(_existing(session, me, project_id, Role.VIEWER), me.role_in(project_id))


def create(db: Database, me: Principal, new: ProjectIn) -> ProjectOut:
    """Raises `Problem` 403, or 409 when there is one of this name."""
    me.require_installation_admin()
    row = Project(**new.model_dump(), created_at=time.time())
    try:
        with db.write() as session:
            session.add(row)
            session.flush()
            audit.record(session, me, "project.create", row.id, project_id=row.id, data=new.model_dump())
    except IntegrityError:
        raise Problem(409, f"there is a project {new.id!r} already; choose another id") from None
    return project_out(row, me.role_in(row.id))


def change(session: Session, me: Principal, project_id: str, patch: ProjectPatch) -> ProjectOut:
    """The project's administrators describe it; quotas are for those of the installation, whom they serve.

    Raises `Problem` 404 or 403.
    """
    row = _existing(session, me, project_id, Role.ADMIN)
    changes = patch.model_dump(include=patch.model_fields_set)
    if changes.keys() - {"description"}:
        me.require_installation_admin()
    for name, value in changes.items():
        setattr(row, name, value)
    if changes:
        audit.record(session, me, "project.update", row.id, project_id=row.id, data=changes)
    return project_out(row, me.role_in(row.id))


def list_members(session: Session, me: Principal, project_id: str, *, limit: int, cursor: str | None) -> MemberPage:
    """Raises `Problem` 404 or 403."""
    _existing(session, me, project_id, Role.ADMIN)
    query = select(User.name, Membership.role).join(Membership, Membership.user_id == User.id)
    query = query.where(Membership.project_id == project_id)
    rows, following = repository.page(session, query, User.name, limit=limit, cursor=cursor)
    return MemberPage(items=[MemberOut(user=name, role=Role(role)) for name, role in rows], next_cursor=following)


def set_member(session: Session, me: Principal, project_id: str, name: str, given: MemberIn) -> MemberOut:
    """Make a user a member, or change their role. Raises `Problem` 404 or 403."""
    _existing(session, me, project_id, Role.ADMIN, lock=True)  # one at a time: two of the same user cannot collide
    user = existing_user(session, name)
    row = repository.membership(session, project_id, user.id)
    before = row.role if row is not None else None
    if row is None:
        row = Membership(project_id=project_id, user_id=user.id)
        session.add(row)
    row.role = given.role
    if before != given.role:
        data = {"from": before, "to": given.role}
        audit.record(session, me, "member.set", name, project_id=project_id, data=data)
    return MemberOut(user=name, role=Role(given.role))


def remove_member(session: Session, me: Principal, project_id: str, name: str) -> None:
    """Raises `Problem` 404 or 403."""
    _existing(session, me, project_id, Role.ADMIN, lock=True)
    row = repository.membership(session, project_id, existing_user(session, name).id)
    if row is None:
        raise Problem(404, f"{name} is no member of project {project_id}")
    session.delete(row)
    audit.record(session, me, "member.remove", name, project_id=project_id, data={"from": row.role, "to": None})


def _existing(session: Session, me: Principal, project_id: str, role: Role, *, lock: bool = False) -> Project:
    missing = Problem(404, f"there is no project {project_id!r}")
    me.require(project_id, role, hidden=missing)
    row = repository.project(session, project_id, lock=lock)
    if row is None:
        raise missing
    return row
