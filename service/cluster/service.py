"""Reads what the dispatcher writes about the cluster, and sums up what live attempts hold."""

from __future__ import annotations

from collections import Counter, defaultdict

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.attempts.service import LIVE
from service.cluster.schemas import ClusterOut, InUse, LeaderOut, NodeOut, ProjectUse, Resources
from service.dispatch.leadership import DISPATCH
from service.models import TERMINAL, Attempt, Job, JobState, Leader, Node, Project

_OPEN = [state.value for state in JobState if state not in TERMINAL]


def show(session: Session, me: Principal, *, now: float) -> ClusterOut:
    nodes = [
        NodeOut(
            id=row.id,
            name=row.name,
            alive=row.alive,
            total=Resources(cpus=row.cpus, gpus=row.gpus, memory=row.memory),
            spares=int(row.data.get("spares", 0)),
            seen_at=row.seen_at,
        )
        for row in session.scalars(select(Node).order_by(Node.alive.desc(), Node.name, Node.id))
    ]
    there = [node.total for node in nodes if node.alive]
    used = _in_use(session)
    queues = _queues(session, me)
    quotas = session.scalars(select(Project).where(me.visible(Project.id)).order_by(Project.id))
    leader = session.get(Leader, DISPATCH)
    return ClusterOut(
        nodes=nodes,
        total=Resources(**_sum(there, "cpus", "gpus", "memory")),
        in_use=InUse(**_sum(list(used.values()), "cpus", "gpus", "memory", "jobs")),
        projects=[
            ProjectUse(
                project=row.id,
                max_jobs=row.max_jobs,
                max_gpus=row.max_gpus,
                queue=dict(queues[row.id]),
                **used.get(row.id, InUse(cpus=0, gpus=0, memory=0, jobs=0)).model_dump(),
            )
            for row in quotas
        ],
        queue=dict(sum(queues.values(), Counter[str]())),
        leader=leader and _leader(leader, now),
    )


def _in_use(session: Session) -> dict[str, InUse]:
    """What the live attempts of each project hold."""
    cpus, gpus = func.sum(Attempt.cpus), func.sum(Attempt.gpus)
    query = (
        select(Job.project_id, func.count(), cpus, gpus, func.coalesce(func.sum(Attempt.memory), 0.0))
        .join(Job, Job.id == Attempt.job_id)
        .where(Attempt.state.in_(LIVE))
        .group_by(Job.project_id)
    )
    return {
        project: InUse(jobs=jobs, cpus=cpus, gpus=gpus, memory=memory)
        for project, jobs, cpus, gpus, memory in session.execute(query)
    }


def _queues(session: Session, me: Principal) -> dict[str, Counter[str]]:
    query = (
        select(Job.project_id, Job.state, func.count())
        .where(Job.state.in_(_OPEN), me.visible(Job.project_id))
        .group_by(Job.project_id, Job.state)
    )
    queues: dict[str, Counter[str]] = defaultdict(Counter)
    for project, state, count in session.execute(query):
        queues[project][state] = count
    return queues


def _sum(parts: list[Resources] | list[InUse], *names: str) -> dict[str, float]:
    return {name: sum(getattr(part, name) for part in parts) for name in names}


def _leader(row: Leader, now: float) -> LeaderOut:
    return LeaderOut(holder=row.holder.partition("/")[0], epoch=row.epoch, leads=row.until > now, until=row.until)
