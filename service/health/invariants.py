"""What must be true of the database at any moment, and of a drained queue above all (I1 to I6).

`check` reads only. I7 (no process left over) is a question to the machines, I8 (MLflow equals the database) one to
MLflow: see `service.mirror.check`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.attempts.service import LIVE
from service.jobs.repository import FINAL
from service.jobs.states import ACTIVE, MOVES
from service.models import (
    TERMINAL,
    Artifact,
    Attempt,
    Evaluation,
    Event,
    Job,
    JobState,
    Point,
    Project,
    Series,
    Sweep,
    SweepState,
    Trial,
)
from service.sweeps.events import ENDED

PAGE = 1000  # jobs looked at together


@dataclass(frozen=True)
class Broken:
    """One violation: which invariant, of what, and how it shows."""

    invariant: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.where}: {self.what}"


@dataclass(frozen=True)
class Limits:
    """The most that attempts together may hold at any time."""

    cpus: float
    gpus: float = 0.0


def check(
    session: Session, *, drained: bool = False, acknowledged: Iterable[str] = (), limits: Limits | None = None
) -> list[Broken]:
    """All violations that the database shows.

    Args:
        drained: nothing is left to do, so every job must have ended.
        acknowledged: ids that were answered with 201 or 202; each must exist (and, drained, have ended).
        limits: what the cluster had all along; without it only the present is held against quotas.
    """
    broken = list(_jobs_exist(session, acknowledged))
    for jobs in _pages(session):
        broken += _ended(jobs, drained)
        broken += _one_result(session, jobs)
        broken += _series_whole(session, jobs)
        broken += _history(session, jobs)
        broken += _attempts(session, jobs)
    broken += _sweeps(session, drained)
    return broken + list(_quotas(session)) + list(_never_too_much(session, limits))


def _pages(session: Session) -> Iterator[Sequence[Job]]:
    last = ""
    while jobs := session.scalars(select(Job).where(Job.id > last).order_by(Job.id).limit(PAGE)).all():
        yield jobs
        last = jobs[-1].id
        session.expunge_all()


def _jobs_exist(session: Session, acknowledged: Iterable[str]) -> Iterator[Broken]:
    ids = list(dict.fromkeys(acknowledged))
    for i in range(0, len(ids), 500):
        some = ids[i : i + 500]
        there = set(session.scalars(select(Job.id).where(Job.id.in_(some))))
        yield from (Broken("I1", job_id, "was acknowledged and is gone") for job_id in some if job_id not in there)


def _ended(jobs: Sequence[Job], drained: bool) -> Iterator[Broken]:
    for job in jobs:
        if drained and job.state not in TERMINAL:
            yield Broken("I1", job.id, f"is {job.state} though nothing is left to do")
        if (job.ended_at is not None) != (job.state in TERMINAL):
            yield Broken("I4", job.id, f"is {job.state} and ended_at is {job.ended_at}")


def _one_result(session: Session, jobs: Sequence[Job]) -> Iterator[Broken]:
    done = [job.id for job in jobs if job.state == JobState.SUCCEEDED]
    finals = Counter(
        session.scalars(select(Evaluation.job_id).where(Evaluation.job_id.in_(done), Evaluation.name == FINAL))
    )
    results = Counter(
        session.scalars(select(Artifact.job_id).where(Artifact.job_id.in_(done), Artifact.type == "result"))
    )
    for job_id in done:
        for what, found in (("final evaluations", finals[job_id]), ("results", results[job_id])):
            if found != 1:
                yield Broken("I2", job_id, f"has succeeded with {found} {what}")


def _series_whole(session: Session, jobs: Sequence[Job]) -> Iterator[Broken]:
    """The loss is there at every step at which the schedule logs, up to the last one that was reported."""
    by_id = {job.id: job for job in jobs}
    rows = session.scalars(select(Series).where(Series.job_id.in_(by_id), Series.key == "loss")).all()
    steps: dict[int, set[int]] = defaultdict(set)
    for series_id, step in session.execute(
        select(Point.series_id, Point.step).where(Point.series_id.in_([row.id for row in rows]))
    ):
        steps[series_id].add(step)
    for row in rows:
        job, have = by_id[row.job_id], steps[row.id]
        missing = sorted(_logged(job, row.last_step) - have)
        if missing:
            yield Broken("I3", job.id, f"loss is missing at {len(missing)} steps, the first {missing[:5]}")
        if len(have) != row.count:
            yield Broken("I3", job.id, f"loss has {len(have)} points and its summary counts {row.count}")
    with_loss = {row.job_id: row for row in rows}
    for job in jobs:
        if job.state == JobState.SUCCEEDED and job.total_steps and not _early_end_allowed(job):
            last = with_loss[job.id].last_step if job.id in with_loss else 0
            if last != job.total_steps:
                yield Broken("I3", job.id, f"has succeeded at step {last} of {job.total_steps}")


def _logged(job: Job, last: int) -> set[int]:
    schedule = job.spec["schedule"]
    every = set(range(schedule["log_every"], last + 1, schedule["log_every"]))
    return every | set(range(schedule["checkpoint_every"], last + 1, schedule["checkpoint_every"]))


def _early_end_allowed(job: Job) -> bool:
    return job.spec["schedule"].get("early_stop") is not None


def _history(session: Session, jobs: Sequence[Job]) -> Iterator[Broken]:
    """Changes of state form one chain by the table, and nothing follows a terminal state."""
    states: dict[str, str | None] = dict.fromkeys((job.id for job in jobs), None)
    events = select(Event.id, Event.job_id, Event.actor, Event.data).where(
        Event.job_id.in_(states), Event.type == "job.state"
    )
    for _, job_id, actor, data in session.execute(events.order_by(Event.id)):
        before, to = states[job_id], data["to"]
        if data["from"] != before:
            yield Broken("I4", job_id, f"went from {data['from']} to {to} when it was {before}")
        elif before is not None and actor not in MOVES[JobState(before)].get(JobState(to), ()):
            yield Broken("I4", job_id, f"went from {before} to {to} by the {actor}, which the table does not allow")
        states[job_id] = to
    for job in jobs:
        if states[job.id] != job.state:
            yield Broken("I4", job.id, f"is {job.state}, but its last event says {states[job.id]}")


def _attempts(session: Session, jobs: Sequence[Job]) -> Iterator[Broken]:
    """Attempts are numbered without a hole, at most one lives, and a process ran one after another."""
    by_job: dict[str, list[Attempt]] = {job.id: [] for job in jobs}
    query = select(Attempt).where(Attempt.job_id.in_(by_job)).order_by(Attempt.number)
    for attempt in session.scalars(query):
        by_job[attempt.job_id].append(attempt)
    for job in jobs:
        mine = by_job[job.id]
        if [attempt.number for attempt in mine] != list(range(1, len(mine) + 1)) or job.epoch < len(mine):
            yield Broken("I5", job.id, f"has attempts {[a.number for a in mine]} and epoch {job.epoch}")
        live = [attempt for attempt in mine if attempt.state in LIVE]
        if live and (len(live) > 1 or job.state not in ACTIVE or live[0] is not mine[-1]):
            yield Broken("I5", job.id, f"is {job.state} with live attempts {[a.number for a in live]} of {len(mine)}")
        for attempt in mine:
            if attempt.started_at is not None and attempt.process is None:
                yield Broken("I5", job.id, f"attempt {attempt.number} reported, but no process took its ticket")
    by_process: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in (attempt for attempts in by_job.values() for attempt in attempts):
        if attempt.process is not None:
            by_process[attempt.process].append(attempt)
    for process, ran in by_process.items():
        ran.sort(key=lambda attempt: attempt.created_at)
        for before, after in pairwise(ran):
            if before.ended_at is None or before.ended_at > (after.started_at or after.created_at):
                yield Broken("I5", process, f"one process ran attempts {before.id} and {after.id} at the same time")


def _sweeps(session: Session, drained: bool) -> Iterator[Broken]:
    """Of every sweep's trials none is missing and none is there twice, and one that has ended runs nothing."""
    query = select(Sweep.id, Sweep.state, Trial.number, Trial.seed, Job.state)
    query = query.join(Trial, Trial.sweep_id == Sweep.id).join(Job, Job.id == Trial.job_id).order_by(Sweep.id)
    for (sweep_id, state), rows in groupby(session.execute(query).all(), key=lambda row: (row[0], row[1])):
        trials = list(rows)
        numbers = {number for _, _, number, _, _ in trials} - {0}
        if numbers and numbers != set(range(1, len(numbers) + 1)):
            yield Broken("I2", sweep_id, f"trials are missing: it has {sorted(numbers)[:50]}")
        twice = Counter((number, seed) for _, _, number, seed, _ in trials)
        for (number, seed), count in twice.items():
            if count > 1:
                yield Broken("I2", sweep_id, f"trial {number} with seed {seed} is there {count} times")
        running = [number for _, _, number, _, job in trials if job not in TERMINAL]
        if running and (drained or (state in ENDED and state != SweepState.STOPPED and state != SweepState.FAILED)):
            yield Broken("I2", sweep_id, f"is {state}, and trials {running[:20]} have not ended")


def _quotas(session: Session) -> Iterator[Broken]:
    query = (
        select(Project.id, Project.max_jobs, Project.max_gpus, func.count(), func.sum(Attempt.gpus))
        .join(Job, Job.project_id == Project.id)
        .join(Attempt, Attempt.job_id == Job.id)
        .where(Attempt.state.in_(LIVE))
        .group_by(Project.id, Project.max_jobs, Project.max_gpus)
    )
    for project, max_jobs, max_gpus, running, gpus in session.execute(query):
        if max_jobs is not None and running > max_jobs:
            yield Broken("I6", project, f"{running} attempts run, its quota is {max_jobs}")
        if max_gpus is not None and gpus > max_gpus + 1e-6:
            yield Broken("I6", project, f"its attempts hold {gpus:g} GPUs, its quota is {max_gpus:g}")


def _never_too_much(session: Session, limits: Limits | None) -> Iterator[Broken]:
    """What attempts held together at any time, from when they were claimed until they ended."""
    if limits is None:
        return
    changes: list[tuple[float, int, float, float]] = []
    for claimed, ended, cpus, gpus in session.execute(
        select(Attempt.created_at, Attempt.ended_at, Attempt.cpus, Attempt.gpus)
    ):
        changes.append((claimed, 1, cpus, gpus))
        if ended is not None:
            changes.append((ended, 0, -cpus, -gpus))  # at the same instant an end comes first
    held = {"cpus": 0.0, "gpus": 0.0}
    for moment, _, more_cpus, more_gpus in sorted(changes):
        held["cpus"] += more_cpus
        held["gpus"] += more_gpus
        for kind, most in (("cpus", limits.cpus), ("gpus", limits.gpus)):
            if held[kind] > most + 1e-6:
                yield Broken("I6", f"at {moment:.3f}", f"live attempts held {held[kind]:g} {kind} of {most:g}")
                return
