"""The queue in the database: what waits, what is in use, and the attempts of those whose turn it is.

What is in use is summed over live attempts in the very transaction that adds to them, under a lock that one claim at a
time can have, and never kept as a counter: two dispatchers cannot hand out the same GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from bcd import crash
from service.attempts.outcome import INFRASTRUCTURE
from service.attempts.repository import fruitless_attempts
from service.attempts.service import LIVE
from service.dispatch import waits
from service.dispatch.backend import Launch, Needs, NodeInfo
from service.dispatch.placement import Occupied, Plan, Waiting, plan
from service.dispatch.words import Quota, clock_time, why_too_large
from service.jobs.states import move
from service.models import Attempt, Job, JobState, Node, Project, new_id
from service.settings import Settings

LOOK = 100  # jobs of each project that are looked at; the others are behind them anyway
MOST = 200  # and in all
LONGEST_PAUSE = 60.0  # seconds between a fault of the infrastructure and the next attempt
REASONS_EVERY = 2.0  # seconds between two looks at what the waiting jobs are told
_LOCK = 0x6263_6402  # any constant: the key of our advisory lock on PostgreSQL

# The first queued jobs of each project.
_place = func.row_number().over(partition_by=Job.project_id, order_by=(Job.priority.desc(), Job.created_at, Job.id))
_ranked = select(Job.id, _place.label("place")).where(Job.state == JobState.QUEUED.value).subquery()
_QUEUED = (
    select(Job.id, Job.project_id, Job.priority, Job.created_at, Job.epoch, Job.wait_reason)
    .add_columns(Job.spec["resources"].label("resources"))
    .join(_ranked, _ranked.c.id == Job.id)
    .where(_ranked.c.place <= LOOK)
    .order_by(Job.priority.desc(), _ranked.c.place, Job.id)
    .limit(MOST)
)
_LIVE = (
    select(Attempt.cpus, Attempt.gpus, Attempt.memory, Attempt.node, Attempt.actor, Job.project_id)
    .add_columns(Job.spec["resources"].label("resources"))
    .join(Job, Job.id == Attempt.job_id)
    .where(Attempt.state.in_(LIVE))
    .order_by(Attempt.created_at, Attempt.id)
)
_WITH_QUOTA = select(Project).where(or_(Project.max_jobs.is_not(None), Project.max_gpus.is_not(None)))

# The name of an attempt's worker and its node, for what it needs, on one of the nodes; not one of the taken names.
Pick = Callable[[Needs, Sequence[str], Collection[str]], tuple[str, str | None]]


@dataclass
class Draft:
    """What a claim would do: attempts to start, jobs to give up with their cause, and new reasons to wait."""

    plan: Plan
    failures: dict[str, str]
    reasons: dict[str, str]
    picked: dict[str, tuple[str, str | None]]

    def __bool__(self) -> bool:
        return bool(self.plan.starts or self.failures or self.reasons)


class Queue:
    """Remembers only since when jobs wait for nodes that are not there; another dispatcher counts from its start."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._too_large_since: dict[str, float] = {}
        self._reasons_at = float("-inf")

    def draft(self, session: Session, nodes: Sequence[NodeInfo], pick: Pick, *, now: float) -> Draft:
        """What there is to do. Changes nothing."""
        live = list(_live(session))
        queued = session.execute(_QUEUED).all()
        taken = {actor for _, actor in live}
        picked: dict[str, tuple[str, str | None]] = {}

        def seat(job: Waiting, fitting: Sequence[str]) -> str | None:
            picked[job.id] = pick(job.needs, fitting, taken)
            taken.add(picked[job.id][0])
            return picked[job.id][1]

        quotas = {p.id: Quota(p.max_jobs, p.max_gpus) for p in session.scalars(_WITH_QUOTA)}
        waiting = self._waiting(session, queued, now)
        made = plan(nodes, [one for one, _ in live], waiting, quotas, now=now, seat=seat)
        failures = self._too_large(session, made, {job.id: job.needs for job in waiting}, now)
        reasons: dict[str, str] = {}
        if now - self._reasons_at >= REASONS_EVERY:
            told = {row.id: row.wait_reason for row in queued}
            reasons = {id: reason for id, reason in made.reasons.items() if told[id] != reason}
            reasons |= waits.for_others(session)
            if len(queued) >= LOOK:
                reasons |= waits.behind(session, [row.id for row in queued])
        return Draft(made, failures, reasons, picked)

    def claim(self, session: Session, nodes: Sequence[NodeInfo], pick: Pick, *, now: float) -> list[Launch]:
        """Give queued jobs that fit their attempts: epoch, lease, node and worker. In the caller's transaction."""
        if session.get_bind().dialect.name == "postgresql":
            session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        draft = self.draft(session, nodes, pick, now=now)
        for job in _locked(session, draft.failures):
            move(session, job, JobState.FAILED, actor="dispatcher", cause=draft.failures[job.id])
        wanted = {job.id: job for job in draft.plan.starts}
        jobs = {job.id: job for job in _locked(session, wanted)}  # some may just have been cancelled
        launches = [
            _begin(session, self._settings, jobs[id], start.needs, *draft.picked[id], now)
            for id, start in wanted.items()
            if id in jobs
        ]
        # Last: while it holds many rows it waits for none, so it cannot be a part of a deadlock.
        if now - self._reasons_at >= REASONS_EVERY:
            self._reasons_at = now
            waits.write(session, draft.reasons)
        session.flush()
        crash.point("claim.written")
        return launches

    def _waiting(self, session: Session, queued: Sequence[Any], now: float) -> list[Waiting]:
        """The queued jobs, and of those that ran before what their last attempt teaches."""
        last = _last_attempts(session, [row.id for row in queued if row.epoch])
        waiting = []
        for row in queued:
            job = Waiting(row.id, row.project_id, row.priority, row.created_at, needs_of(row.resources))
            attempt = last.get(row.id)
            if attempt is not None and attempt.cause_type == INFRASTRUCTURE and attempt.ended_at is not None:
                pause = 0.0
                if self._settings.retry_seconds and now - attempt.ended_at < LONGEST_PAUSE:
                    pause = retry_pause(fruitless_attempts(session, row.id), self._settings.retry_seconds)
                job = Waiting(
                    job.id, job.project, job.priority, job.created_at, job.needs,
                    not_before=attempt.ended_at + pause if pause else 0.0,
                    last_cause=(attempt.cause or "without a cause")[:200],
                    avoid=attempt.node,
                    alone=attempt.process is None and attempt.started_at is None,
                )  # fmt: skip
            waiting.append(job)
        return waiting

    def _too_large(self, session: Session, made: Plan, needs: dict[str, Needs], now: float) -> dict[str, str]:
        """Tell those that no node could hold why they wait; return those that have waited long enough.

        Not those that a node could hold which was seen and is away: it may come back.
        """
        since = {id: self._too_large_since.get(id, now) for id in made.too_large}
        self._too_large_since = since
        if not since:
            return {}
        away = [_info(row) for row in session.scalars(select(Node).where(Node.alive.is_(False)))]
        failures = {}
        for id, why in made.too_large.items():
            absent = next((node.name for node in away if why_too_large(needs[id], [node]) is None), None)
            until = since[id] + self._settings.unplaceable_patience
            if absent is not None:
                made.reasons[id] = f"{why}; node {absent}, which has it, is away"
            elif now >= until:
                failures[id] = f"the job {why}"
            else:
                made.reasons[id] = f"{why}; waits until {clock_time(until)} for such a node"
        return failures


def needs_of(resources: dict[str, Any] | None) -> Needs:
    """What a job occupies. Each of its processes takes a CPU at least, however few threads the spec grants."""
    asked = resources or {}
    gpus = float(asked.get("gpus") or 0)
    processes = int(asked.get("processes") or max(int(gpus), 1))
    return Needs(max(int(asked.get("cpus") or 1), processes), gpus, asked.get("memory"), processes)


def retry_pause(fruitless: int, first: float) -> float:
    """Seconds to wait after so many attempts in a row that got no further: a full disk is often free again soon."""
    return 0.0 if fruitless <= 0 else min(LONGEST_PAUSE, first * 2.0 ** min(fruitless - 1, 10))


def _live(session: Session) -> Iterator[tuple[Occupied, str]]:
    """What each live attempt occupies, and the name of its worker."""
    for row in session.execute(_LIVE):
        needs = Needs(row.cpus, row.gpus, row.memory, needs_of(row.resources).processes)
        yield Occupied(row.project_id, needs, row.node), row.actor


def _last_attempts(session: Session, job_ids: Sequence[str]) -> dict[str, Attempt]:
    if not job_ids:
        return {}
    query = select(Attempt).where(Attempt.job_id.in_(job_ids)).order_by(Attempt.number)
    return {attempt.job_id: attempt for attempt in session.scalars(query)}


def _locked(session: Session, ids: Collection[str]) -> Sequence[Job]:
    """Those of the jobs that are still queued and that nobody else is changing."""
    if not ids:
        return []
    query = select(Job).where(Job.id.in_(list(ids)), Job.state == JobState.QUEUED.value)
    return session.scalars(
        query.with_for_update(skip_locked=True), execution_options={"populate_existing": True}
    ).all()  # fmt: skip


def _info(row: Node) -> NodeInfo:
    return NodeInfo(row.id, row.name, row.alive, int(row.cpus), int(row.gpus), row.memory)


def _begin(
    session: Session, settings: Settings, job: Job, needs: Needs, actor: str, node: str | None, now: float
) -> Launch:
    number = session.scalar(select(func.coalesce(func.max(Attempt.number), 0)).where(Attempt.job_id == job.id))
    job.epoch += 1
    attempt = Attempt(
        id=new_id("att"),
        job_id=job.id,
        number=int(number or 0) + 1,
        epoch=job.epoch,
        state="starting",
        actor=actor,
        cpus=int(needs.cpus),
        gpus=needs.gpus,
        memory=needs.memory,
        node=node,
        acked_seq=0,
        lease_until=now + max(settings.lease_seconds, settings.start_seconds),
        created_at=time.time(),
    )
    session.add(attempt)
    session.flush()
    move(session, job, JobState.STARTING, actor="dispatcher", attempt_id=attempt.id)
    return launch_of(attempt, needs.processes)


def launch_of(attempt: Attempt, processes: int) -> Launch:
    return Launch(
        attempt.id, attempt.epoch, attempt.actor, attempt.gpus, attempt.memory, processes, attempt.node
    )  # fmt: skip
