"""Database models, SQLAlchemy 2.1. The only source of truth; the same on SQLite and PostgreSQL.

Times are Unix seconds (float): both databases order and compare them alike.
"""

from __future__ import annotations

import enum
import secrets
import time
from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite autoincrements only INTEGER keys


def new_id(prefix: str) -> str:
    """A short id that sorts by time: `job_` + 8 characters of milliseconds + 6 random ones."""
    ms, out = int(time.time() * 1000), ""
    for _ in range(8):
        ms, digit = divmod(ms, 32)
        out = _ALPHABET[digit] + out
    return f"{prefix}_{out}" + "".join(secrets.choice(_ALPHABET) for _ in range(6))


class Base(DeclarativeBase):
    # Every constraint has a name: a later migration can then change it on both databases.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class JobState(enum.StrEnum):
    """States of a job. `WAITING`: for the job that trains its teacher."""

    WAITING = "waiting"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Job(Base):
    """A distillation job: a spec that was accepted, and how far it has come."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(20), index=True)
    cause: Mapped[str | None] = mapped_column(Text)
    teacher_job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    step: Mapped[int] = mapped_column(Integer, default=0)
    total_steps: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[float] = mapped_column(Float, index=True)
    started_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    # Grows with each attempt and never shrinks: a write that carries an older epoch is refused (fencing).
    epoch: Mapped[int] = mapped_column(Integer, default=0)


class Attempt(Base):
    """One try at a job by one supervisor."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("job_id", "number"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    number: Mapped[int] = mapped_column(Integer)
    epoch: Mapped[int] = mapped_column(Integer)
    # starting, running, succeeded, failed, cancelled, lost (worker gone; the job may be retried)
    state: Mapped[str] = mapped_column(String(20), index=True)
    actor: Mapped[str] = mapped_column(String(100))
    cpus: Mapped[int] = mapped_column(Integer)
    gpus: Mapped[int] = mapped_column(Integer)
    acked_seq: Mapped[int] = mapped_column(Integer, default=0)
    lease_until: Mapped[float] = mapped_column(Float)
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    cause: Mapped[str | None] = mapped_column(Text)
    traceback: Mapped[str | None] = mapped_column(Text)


class Metric(Base):
    """One scalar. Keyed by job so that a retried step overwrites what the earlier attempt reported for it."""

    __tablename__ = "metrics"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[float] = mapped_column(Float)
    time: Mapped[float] = mapped_column(Float)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))


class LogLine(Base):
    """One line of an attempt's log."""

    __tablename__ = "log_lines"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))
    seq: Mapped[int] = mapped_column(Integer)
    time: Mapped[float] = mapped_column(Float)
    level: Mapped[str] = mapped_column(String(10))
    text: Mapped[str] = mapped_column(Text)


class Artifact(Base):
    """A stored file: checkpoint, result weights, predictions."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "type", "name"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))
    type: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(200))
    step: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[float] = mapped_column(Float)


class Evaluation(Base):
    """One evaluation of a job; exactly one for each name (`final`, `step-400`, ...)."""

    __tablename__ = "evaluations"
    __table_args__ = (UniqueConstraint("job_id", "name"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))
    name: Mapped[str] = mapped_column(String(100))
    step: Mapped[int] = mapped_column(Integer)
    protocol: Mapped[str] = mapped_column(String(128))
    results: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[float] = mapped_column(Float)


class Event(Base):
    """Something that happened; `id` is the SSE event id, so a client resumes without gap or repeat."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_job_id_id", "job_id", "id"),)
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    time: Mapped[float] = mapped_column(Float)
    type: Mapped[str] = mapped_column(String(50))  # job.state, job.metrics, job.evaluation, job.artifact
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    actor: Mapped[str] = mapped_column(String(50))  # user, dispatcher, worker
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


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
