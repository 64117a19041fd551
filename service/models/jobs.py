"""Tables of jobs: what was accepted, what it waits for, its attempts, and what happened."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.models.access import DEFAULT_PROJECT
from service.models.base import Base, BigId


class JobState(enum.StrEnum):
    """States of a job. `WAITING`: for other jobs, that of its teacher above all."""

    WAITING = "waiting"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Job(Base):
    """A distillation job: a spec that was accepted, and how far it has come."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index("ix_jobs_created_at_id", "created_at", "id"),
        Index("ix_jobs_state_created_at_id", "state", "created_at", "id"),
        Index("ix_jobs_project_id_created_at_id", "project_id", "created_at", "id"),
    )
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), default=DEFAULT_PROJECT)
    name: Mapped[str] = mapped_column(String(200))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(20))
    cause: Mapped[str | None] = mapped_column(Text)
    wait_reason: Mapped[str | None] = mapped_column(Text)  # why it is not running yet, as the dispatcher last saw it
    teacher_job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    # The job from which this one was cloned or whose work it takes up again (`retry`).
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    origin: Mapped[str | None] = mapped_column(String(10))  # clone, retry
    group: Mapped[str | None] = mapped_column("group_name", String(100), index=True)  # runs that are looked at together
    priority: Mapped[int] = mapped_column(Integer, default=0)  # higher goes first
    retries: Mapped[int] = mapped_column(Integer, default=0)  # how often a failure of the job itself is tried again
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    request_hash: Mapped[str] = mapped_column(String(64))
    # Parts of the spec that lists filter by.
    methods: Mapped[str] = mapped_column(String(400), default=",")  # ",bckd,ld,"
    detector: Mapped[str] = mapped_column(String(100), default="")
    dataset: Mapped[str] = mapped_column(String(100), default="")
    seed: Mapped[int] = mapped_column(Integer, default=0)
    step: Mapped[int] = mapped_column(Integer, default=0)
    total_steps: Mapped[int] = mapped_column(Integer)
    created_by: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    # Grows with each attempt and never shrinks: a write that carries an older epoch is refused (fencing).
    epoch: Mapped[int] = mapped_column(Integer, default=0)


class JobTag(Base):
    """A word that people gave a job."""

    __tablename__ = "job_tags"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(50), primary_key=True, index=True)


class Dependency(Base):
    """`job_id` starts only after `needs_id` has succeeded. A teacher that is a job is one of them."""

    __tablename__ = "dependencies"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    needs_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True, index=True)


class Attempt(Base):
    """One try at a job by one supervisor."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("job_id", "number"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    number: Mapped[int] = mapped_column(Integer)
    epoch: Mapped[int] = mapped_column(Integer)
    # starting, running, succeeded, failed, cancelled, paused, lost (worker gone; the job may be retried)
    state: Mapped[str] = mapped_column(String(20), index=True)
    actor: Mapped[str] = mapped_column(String(100))
    # The process that fetched the ticket (host, pid, time of birth): no other one gets it.
    process: Mapped[str | None] = mapped_column(String(200))
    cpus: Mapped[int] = mapped_column(Integer)
    gpus: Mapped[float] = mapped_column(Float)
    memory: Mapped[float | None] = mapped_column(Float)  # GiB
    # The node that the dispatcher chose. None: several processes that may be on several nodes, or a worker that was
    # made before anybody asked for it.
    node: Mapped[str | None] = mapped_column(String(100))
    acked_seq: Mapped[int] = mapped_column(Integer, default=0)
    lease_until: Mapped[float] = mapped_column(Float)
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    cause: Mapped[str | None] = mapped_column(Text)
    cause_type: Mapped[str | None] = mapped_column(String(20))  # infrastructure, job (its own code or data)
    traceback: Mapped[str | None] = mapped_column(Text)


class Event(Base):
    """Something that happened; `id` is the SSE event id, so a client resumes without gap or repeat."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_job_id_id", "job_id", "id"),
        Index("ix_events_project_id_id", "project_id", "id"),
    )
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    time: Mapped[float] = mapped_column(Float)
    type: Mapped[str] = mapped_column(String(50))  # job.state, job.metrics, job.evaluation, job.artifact, job.facts
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    project_id: Mapped[str | None] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(String(50))  # user, dispatcher, worker
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
