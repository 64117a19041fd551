"""Finished students: the list of jobs, of those that have succeeded, with what belongs to their weights."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.catalog.schemas import ModelFile, ModelOut, ModelPage
from service.compare.costs import RunCost, read_costs
from service.filters import Filter
from service.jobs.repository import FINAL
from service.lists import service as lists
from service.lists.sorting import Order
from service.models import Artifact, Evaluation, Job, JobState
from service.results.facts import facts_of


def page(session: Session, me: Principal, wanted: Filter, order: Order, *, limit: int, cursor: str | None) -> ModelPage:
    """A page of models. Raises `Problem` 422 for a cursor of another list."""
    found = lists.page(session, me, wanted, [JobState.SUCCEEDED], order, metrics=[], limit=limit, cursor=cursor)
    ids = [job.id for job in found.items]
    files, costs, facts = _files(session, ids), read_costs(session, ids), facts_of(session, ids)
    protocols, taught = _protocols(session, ids), _taught(session, me, ids)
    items = []
    for job in found.items:
        cost, told = costs.get(job.id, RunCost()), facts.get(job.id, {})
        items.append(
            ModelOut(
                job=job,
                file=files.get(job.id),
                parameters=cost.parameters,
                gflops=cost.gflops,
                latency_ms=cost.latency_ms,
                device=cost.device,
                protocol=protocols.get(job.id),
                data_version=told.get("data_version"),
                git_commit=told.get("git_commit"),
                teaches=taught.get(job.id, 0),
            )
        )
    return ModelPage(items=items, next_cursor=found.next_cursor)


def _files(session: Session, job_ids: Sequence[str]) -> dict[str, ModelFile]:
    query = select(Artifact).where(Artifact.job_id.in_(job_ids), Artifact.type == "result").order_by(Artifact.step)
    return {
        row.job_id: ModelFile(artifact_id=row.id, name=row.name, sha256=row.sha256, size=row.size, step=row.step)
        for row in session.scalars(query)
    }


def _protocols(session: Session, job_ids: Sequence[str]) -> dict[str, str]:
    query = select(Evaluation.job_id, Evaluation.protocol)
    return dict(session.execute(query.where(Evaluation.job_id.in_(job_ids), Evaluation.name == FINAL)).all())


def _taught(session: Session, me: Principal, job_ids: Sequence[str]) -> dict[str, int]:
    query = select(Job.teacher_job_id, func.count()).where(Job.teacher_job_id.in_(job_ids), me.visible(Job.project_id))
    return {str(teacher): count for teacher, count in session.execute(query.group_by(Job.teacher_job_id))}
