"""HTTP route of the comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.access.principal import Me, Principal
from service.compare.compare import Matched, build, match
from service.compare.costs import build_costs, read_costs
from service.compare.leaderboard import build_leaderboard
from service.compare.parts import build_parts
from service.compare.schemas import CompareOut, CostsOut, LeaderboardOut, PartsOut
from service.conditional import Tags, version_of, version_of_all
from service.deps import Db
from service.errors import Problem
from service.jobs.repository import FINAL
from service.jobs.service import not_found
from service.models import Evaluation, Job, JobState, Trial

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
        teachers = _teachers(session, me, jobs.values())
        tags.tag(me, version_of(session, [*wanted, *(job.id for job in teachers)]))
        return _sorted_out(session, [jobs[job_id] for job_id in wanted], teachers)


def _teachers(session: Session, me: Principal, jobs: Iterable[Job]) -> Sequence[Job]:
    ids = {job.teacher_job_id for job in jobs if job.teacher_job_id}
    return session.scalars(select(Job).where(Job.id.in_(ids), me.visible(Job.project_id)).order_by(Job.id)).all()


def _sorted_out(session: Session, jobs: Sequence[Job], teachers: Sequence[Job]) -> Matched:
    ids = [job.id for job in (*jobs, *teachers)]
    found = session.scalars(select(Evaluation).where(Evaluation.job_id.in_(ids), Evaluation.name == FINAL))
    return match(jobs, teachers, {row.job_id: row for row in found})


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


@router.get("/leaderboard", summary="What is best so far, over seeds, of the newest finished runs")
def leaderboard(
    db: Db,
    me: Me,
    tags: Tags,
    runs: Annotated[int, Query(ge=1, le=MAX_JOBS, description="The newest finished runs to look at.")] = MAX_JOBS,
) -> LeaderboardOut:
    """Groups of one protocol share a board: only there AP means the same. Trials of sweeps are left out: the best of
    many single runs is lucky by selection, and a sweep's own report says what is left of it over seeds.
    """
    with db.read() as session:
        tags.tag(me, version_of_all(session))
        query = select(Job).where(Job.state == JobState.SUCCEEDED, me.visible(Job.project_id))
        query = query.where(~select(Trial.job_id).where(Trial.job_id == Job.id).exists())
        jobs = session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(runs)).all()
        matched = _sorted_out(session, jobs, _teachers(session, me, jobs))
        costs = read_costs(session, [run.job.id for group in matched.groups for run in group.runs])
    return build_leaderboard(matched, costs, len(jobs))
