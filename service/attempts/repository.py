"""Queries and bulk writes for what attempts report. No decisions, no commits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from service.models import Artifact, Attempt, Evaluation, Job, LogLine


def lock(session: Session, attempt_id: str) -> tuple[Attempt, Job] | None:
    """The attempt and its job, locked until the end of the transaction; the job first, as everywhere."""
    job_id = session.scalar(select(Attempt.job_id).where(Attempt.id == attempt_id))
    if job_id is None:
        return None
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    attempt = session.get(Attempt, attempt_id, with_for_update=True, populate_existing=True)
    return None if job is None or attempt is None else (attempt, job)


def insert_logs(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        session.connection().execute(insert(LogLine), rows)


def artifact(session: Session, job_id: str, type: str, name: str) -> Artifact | None:
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.type == type, Artifact.name == name)
    return session.scalar(query)


def artifacts(session: Session, job_id: str, type: str) -> Sequence[Artifact]:
    """Artifacts of a type, the latest written first: an attempt that had to go far back writes earlier steps again."""
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.type == type)
    return session.scalars(query.order_by(Artifact.created_at.desc(), Artifact.step.desc(), Artifact.id.desc())).all()


def delete_artifacts(session: Session, ids: Sequence[str]) -> None:
    session.execute(delete(Artifact).where(Artifact.id.in_(ids)))


def keys_in_use(session: Session, keys: Iterable[str]) -> set[str]:
    """Those of the storage keys that some artifact names."""
    return set(session.scalars(select(Artifact.key).where(Artifact.key.in_(list(keys)))))


def evaluation(session: Session, job_id: str, name: str) -> Evaluation | None:
    return session.scalar(select(Evaluation).where(Evaluation.job_id == job_id, Evaluation.name == name))


def failures_of_the_job(session: Session, job_id: str) -> int:
    """Attempts that ended by the job's own fault."""
    query = select(func.count()).where(Attempt.job_id == job_id, Attempt.cause_type == "job")
    return session.scalar(query) or 0


def fruitless_attempts(session: Session, job_id: str) -> int:
    """Attempts that the infrastructure ended, counted back from the newest, since one last stored a checkpoint.

    Only these count against `max_attempts`: a job that moves forward may be interrupted as often as it likes, and
    attempts that were paused, or failed by the job's own fault, are no sign of a bad machine.
    """
    fruitful = set(
        session.scalars(select(Artifact.attempt_id).where(Artifact.job_id == job_id, Artifact.type == "checkpoint"))
    )
    count = 0
    for attempt_id in session.scalars(
        select(Attempt.id)
        .where(Attempt.job_id == job_id, Attempt.cause_type == "infrastructure")
        .order_by(Attempt.number.desc())
    ):
        if attempt_id in fruitful:
            break
        count += 1
    return count
