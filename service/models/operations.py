"""Tables that run the installation: the MLflow mirror, webhooks, who leads, and what the cluster has."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, BigId


class Mirror(Base):
    """How far one job has been copied to MLflow."""

    __tablename__ = "mirrors"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    run_id: Mapped[str | None] = mapped_column(String(64))
    # Position of the last job event that MLflow has seen; equal to the newest one when complete.
    event_id: Mapped[int] = mapped_column(BigInteger, default=0)
    # What has been written so far (metric steps by key, artifacts, registered version), so that a pass adds only news.
    done: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    complete: Mapped[bool] = mapped_column(default=False, index=True)
    error: Mapped[str | None] = mapped_column(Text)


class Webhook(Base):
    """An address that is told what happens in a project. Its signing key is derived, not stored."""

    __tablename__ = "webhooks"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    url: Mapped[str] = mapped_column(Text)
    states: Mapped[list[str]] = mapped_column(JSON)  # told when a job enters one of these
    active: Mapped[bool] = mapped_column(default=True)
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[float] = mapped_column(Float)
    # Events up to this one have their deliveries.
    event_id: Mapped[int] = mapped_column(BigInteger, default=0)


class Delivery(Base):
    """One event on its way to one webhook."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("webhook_id", "event_id"),
        Index("ix_deliveries_state_next_at", "state", "next_at"),
    )
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    event_id: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(10))  # pending, delivered, failed
    tries: Mapped[int] = mapped_column(Integer, default=0)
    next_at: Mapped[float] = mapped_column(Float)
    status: Mapped[int | None] = mapped_column(Integer)  # HTTP status of the last try
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)


class Leader(Base):
    """Which of several equal processes does a task now; it must renew before `until`."""

    __tablename__ = "leaders"
    task: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str] = mapped_column(String(100))
    epoch: Mapped[int] = mapped_column(Integer)
    until: Mapped[float] = mapped_column(Float)


class Node(Base):
    """A machine of the cluster as the dispatcher last saw it."""

    __tablename__ = "nodes"
    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    alive: Mapped[bool] = mapped_column()
    cpus: Mapped[float] = mapped_column(Float)
    gpus: Mapped[float] = mapped_column(Float)
    memory: Mapped[float] = mapped_column(Float)  # GiB
    data: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    seen_at: Mapped[float] = mapped_column(Float)
