"""HTTP route of the comparison."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy import select

from service.access.principal import Me
from service.compare.compare import Matched, build, match
from service.compare.costs import build_costs, read_costs
from service.compare.parts import build_parts
from service.compare.schemas import CompareOut, CostsOut, PartsOut
from service.conditional import Tags, version_of
from service.deps import Db
from service.errors import Problem
from service.jobs.repository import FINAL
from service.jobs.service import not_found
from service.models import Evaluation, Job

router = APIRouter(tags=["compare"])

MAX_JOBS = 200


Ids = Annotated[str, Query(max_length=50 * MAX_JOBS, description="Job ids, separated by commas.")]


def _matched(db: Db, me: Me, tags: Tags, ids: Ids) -> Matched:
    wanted = list(dict.fromkeys(part.strip() for part in ids.split(",") if part.strip()))
    if not 1 <= len(wanted) <= MAX_JOBS:
        message = f"give 1 to {MAX_JOBS} job ids, separated by commas"
        raise Problem(422, f"ids: {message}", errors=[("?ids", message)])
    with db.read() as session:
        asked = select(Job).where(Job.id.in_(wanted), me.visible(Job.project_id))
        jobs = {job.id: job for job in session.scalars(asked)}
        for job_id in wanted:
            if job_id not in jobs:
                raise not_found(job_id)
        teacher_ids = {job.teacher_job_id for job in jobs.values() if job.teacher_job_id}
        query = select(Job).where(Job.id.in_(teacher_ids), me.visible(Job.project_id))
        teachers = session.scalars(query.order_by(Job.id)).all()
        ids_with_result = [*wanted, *(job.id for job in teachers)]
        tags.tag(me, version_of(session, ids_with_result))
        found = select(Evaluation).where(Evaluation.job_id.in_(ids_with_result), Evaluation.name == FINAL)
        finals = {row.job_id: row for row in session.scalars(found)}
    return match([jobs[job_id] for job_id in wanted], teachers, finals)


Runs = Annotated[Matched, Depends(_matched)]


@router.get("/compare", summary="Is the distilled student better than its baseline, and is it more than seed noise?")
def compare_jobs(runs: Runs) -> CompareOut:
    return build(runs)


@router.get("/compare/parts", summary="Which classes and sizes of objects gain or lose by distillation?")
def compare_parts(runs: Runs) -> PartsOut:
    return build_parts(runs)


@router.get("/compare/costs", summary="What do the students cost, and which are worth it?")
def compare_costs(db: Db, runs: Runs) -> CostsOut:
    with db.read() as session:
        costs = read_costs(session, [run.job.id for group in runs.groups for run in group.runs])
    return build_costs(runs, costs)
