"""Tables of sweeps: what is searched, and which jobs are its trials."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.models.access import DEFAULT_PROJECT
from service.models.base import Base


class SweepState(enum.StrEnum):
    """States of a sweep. `SEARCHING`: a driver decides what to try. `REPEATING`: the best run again on more seeds."""

    SEARCHING = "searching"
    REPEATING = "repeating"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class Sweep(Base):
    """A search around a job spec."""

    __tablename__ = "sweeps"
    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index("ix_sweeps_project_id_created_at_id", "project_id", "created_at", "id"),
    )
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), default=DEFAULT_PROJECT)
    name: Mapped[str] = mapped_column(String(100))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(20), index=True)
    cause: Mapped[str | None] = mapped_column(Text)
    # Where a paused sweep goes on.
    paused_from: Mapped[str | None] = mapped_column(String(20))
    priority: Mapped[int] = mapped_column(Integer, default=0)
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    request_hash: Mapped[str] = mapped_column(String(64))
    created_by: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[float] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    # Seconds of search so far, and since when it goes on (None: it does not).
    searched: Mapped[float] = mapped_column(Float, default=0.0)
    searching_since: Mapped[float | None] = mapped_column(Float)
    # The driver. `epoch` grows with each and fences what an older one still sends.
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    actor: Mapped[str | None] = mapped_column(String(100))
    lease_until: Mapped[float] = mapped_column(Float, default=0.0)
    # Drivers in a row that did nothing before they were lost.
    fruitless: Mapped[int] = mapped_column(Integer, default=0)


class Trial(Base):
    """A job of a sweep. Number 0 is the base spec as it is; `seed` tells the runs of one number apart."""

    __tablename__ = "trials"
    __table_args__ = (UniqueConstraint("sweep_id", "number", "seed"),)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweeps.id"))
    number: Mapped[int] = mapped_column(Integer)
    seed: Mapped[int] = mapped_column(Integer)
    params: Mapped[dict[str, Any]] = mapped_column(JSON)
    # Why the scheduler stopped it; None: it did not.
    stopped: Mapped[str | None] = mapped_column(Text)
