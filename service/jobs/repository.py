"""Queries about jobs and what belongs to them. No decisions, no commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.models import Attempt, Evaluation, Job, JobTag

FINAL = "final"  # name of the evaluation that is a job's result


def get(session: Session, me: Principal, job_id: str, *, lock: bool = False) -> Job | None:
    """The job, None also where the caller may not look at its project."""
    job = session.get(Job, job_id, with_for_update=True if lock else None)
    return job if job is not None and me.role_in(job.project_id) is not None else None


def by_idempotency_key(session: Session, project_id: str, key: str) -> Job | None:
    return session.scalar(select(Job).where(Job.project_id == project_id, Job.idempotency_key == key))


def attempts_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """Attempts of each job in order."""
    out: dict[str, list[Attempt]] = {job_id: [] for job_id in job_ids}
    query = select(Attempt).where(Attempt.job_id.in_(job_ids)).order_by(Attempt.number)
    for attempt in session.scalars(query):
        out[attempt.job_id].append(attempt)
    return out


def final_results(session: Session, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Results of the final evaluation of each job that has one."""
    query = select(Evaluation).where(Evaluation.job_id.in_(job_ids), Evaluation.name == FINAL)
    return {row.job_id: row.results for row in session.scalars(query)}


def evaluations(session: Session, job_id: str) -> Sequence[Evaluation]:
    query = select(Evaluation).where(Evaluation.job_id == job_id)
    return session.scalars(query.order_by(Evaluation.step, Evaluation.created_at)).all()


def tags_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[str]]:
    """Tags of each job in one order, whatever the database's collation."""
    out: dict[str, list[str]] = {job_id: [] for job_id in job_ids}
    query = select(JobTag.job_id, JobTag.tag).where(JobTag.job_id.in_(job_ids))
    for job_id, tag in session.execute(query):
        out[job_id].append(tag)
    return {job_id: sorted(tags) for job_id, tags in out.items()}
