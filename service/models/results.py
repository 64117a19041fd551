"""Tables of what attempts report: series of scalars, log lines, stored files, evaluations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from service.models.base import Base, BigId


class Series(Base):
    """One scalar of one job over its steps, with what lists show and sort by, kept up to date at ingest."""

    __tablename__ = "series"
    __table_args__ = (
        UniqueConstraint("job_id", "key"),
        # Sorting jobs by a metric reads one of these in order.
        Index("ix_series_key_last_value_job_id", "key", "last_value", "job_id"),
        Index("ix_series_key_best_value_job_id", "key", "best_value", "job_id"),
    )
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    key: Mapped[str] = mapped_column(String(200))
    count: Mapped[int] = mapped_column(Integer, default=0)
    last_step: Mapped[int] = mapped_column(Integer)
    last_value: Mapped[float] = mapped_column(Float)
    # The largest value, or the smallest where less is better (`service.results.metrics.lower_is_better`).
    best_step: Mapped[int] = mapped_column(Integer)
    best_value: Mapped[float] = mapped_column(Float)


class Point(Base):
    """One value of a series. A retried step overwrites what the earlier attempt reported for it."""

    __tablename__ = "points"
    # The key holds the whole row: attempts write side by side, so a curve's rows lie scattered, and reading one from
    # the table would fetch a page for each point. On SQLite the table itself is in the order of the key.
    __table_args__ = (
        PrimaryKeyConstraint("series_id", "step", postgresql_include=["value", "time"]),
        {"sqlite_with_rowid": False},
    )
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), autoincrement=False)
    step: Mapped[int] = mapped_column(Integer, autoincrement=False)
    # Number of the attempt that reported it; 0: taken over from the job that this one retries.
    attempt: Mapped[int] = mapped_column(SmallInteger)
    value: Mapped[float] = mapped_column(Float)
    time: Mapped[float] = mapped_column(Float)


class LogLine(Base):
    """One line of an attempt's log."""

    __tablename__ = "log_lines"
    __table_args__ = (Index("ix_log_lines_job_id_id", "job_id", "id"),)
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
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
    key: Mapped[str] = mapped_column(String(200), index=True)
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
