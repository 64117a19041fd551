"""Tables of projects and of those who may use them: users, roles, tokens, and what was done with them."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, BigId

DEFAULT_PROJECT = "default"
GENERATED = "generated"  # the project of `bcd seed-demo`: nothing in it was ever trained


class Role(enum.StrEnum):
    """What a user may do in a project: look, run jobs, or also set members and webhooks."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


class Scope(enum.StrEnum):
    """The most that a token lets its user do."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Project(Base):
    """Jobs that belong together: one experiment in MLflow, one queue share, one set of members."""

    __tablename__ = "projects"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)  # a slug that people type: `default`, `cells`
    description: Mapped[str] = mapped_column(Text, default="")
    # Quotas over running attempts; None: no limit of its own.
    max_jobs: Mapped[int | None] = mapped_column(Integer)
    max_gpus: Mapped[float | None] = mapped_column(Float)
    created_at: Mapped[float] = mapped_column(Float)


class User(Base):
    """A person or a robot. Holds no password: access is by token."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    is_admin: Mapped[bool] = mapped_column(default=False)  # of the whole installation
    created_at: Mapped[float] = mapped_column(Float)
    disabled_at: Mapped[float | None] = mapped_column(Float)


class Membership(Base):
    """A user's role in a project."""

    __tablename__ = "memberships"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(10))


class Token(Base):
    """A bearer token or a browser's session. Only the hash is kept."""

    __tablename__ = "tokens"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    type: Mapped[str] = mapped_column(String(10))  # api, session
    name: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scope: Mapped[str] = mapped_column(String(10))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))  # None: all of the user's projects
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float | None] = mapped_column(Float)
    last_used_at: Mapped[float | None] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)


class Audit(Base):
    """Who did or tried what. Rows are only ever added."""

    __tablename__ = "audits"
    __table_args__ = (Index("ix_audits_project_id_id", "project_id", "id"),)
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    time: Mapped[float] = mapped_column(Float, index=True)
    actor: Mapped[str] = mapped_column(String(100))  # name of the user, or `-`
    token_id: Mapped[str | None] = mapped_column(String(40))
    action: Mapped[str] = mapped_column(String(50))  # token.create, job.cancel, login.refused, ...
    target: Mapped[str] = mapped_column(String(200))
    project_id: Mapped[str | None] = mapped_column(String(40))
    address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(64))
    data: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
