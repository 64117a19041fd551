"""What a retry takes over from the job that it retries: its checkpoints, and all that was reported up to the newest."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.jobs.repository import FINAL
from service.models import Artifact, Evaluation, Job, new_id
from service.results import metrics


def take_over(session: Session, parent_id: str, job: Job) -> None:
    """Let `job` go on where its parent's newest checkpoint is, such that none of its series has a gap.

    Stored files are named by their content, so both jobs name the same ones; a file goes when nobody names it.
    Without a checkpoint nothing is taken over: the job starts afresh. The caller commits.
    """
    parent = session.get_one(Job, parent_id)
    checkpoints = session.scalars(
        select(Artifact).where(Artifact.job_id == parent_id, Artifact.type == "checkpoint")
    ).all()
    if not checkpoints:
        return
    newest = max(checkpoints, key=lambda row: (row.created_at, row.step)).step
    for row in checkpoints:
        session.add(
            Artifact(
                id=new_id("art"), job_id=job.id, attempt_id=row.attempt_id, type=row.type, name=row.name,
                step=row.step, sha256=row.sha256, size=row.size, key=row.key, created_at=row.created_at,
            )
        )  # fmt: skip
    evaluations = select(Evaluation).where(
        Evaluation.job_id == parent_id, Evaluation.step <= newest, Evaluation.name != FINAL
    )
    for one in session.scalars(evaluations).all():
        session.add(
            Evaluation(
                id=new_id("eval"), job_id=job.id, attempt_id=one.attempt_id, name=one.name, step=one.step,
                protocol=one.protocol, results=one.results, created_at=one.created_at,
            )
        )  # fmt: skip
    metrics.take_over(session, parent_id, job.id, through=newest)
    job.step, job.total_steps = newest, parent.total_steps
