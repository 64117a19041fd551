"""Which queued jobs start now: oldest first, only what fits, counted from live attempts and never from a counter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.attempts.service import LIVE
from service.dispatch.backend import Capacity, Launch
from service.jobs.states import move
from service.models import Attempt, Job, JobState, new_id
from service.settings import Settings

START_GRACE = 120.0  # seconds; a cold worker on a busy machine needs a good part of a minute to import torch


def claim(
    session: Session, settings: Settings, capacity: Capacity, pick_actor: Callable[[float], str], *, now: float
) -> Launch | None:
    """Give the first queued job that fits a new attempt: epoch, lease and worker name, in the caller's transaction.

    A job that does not fit reserves what it lacks, so that smaller and younger jobs cannot starve it. A job that
    needs more than the whole cluster has is failed with a cause. Returns None when nothing can start.
    """
    used = session.execute(
        select(func.coalesce(func.sum(Attempt.cpus), 0), func.coalesce(func.sum(Attempt.gpus), 0)).where(
            Attempt.state.in_(LIVE)
        )
    ).one()
    free = {"cpus": capacity.cpus - int(used[0]), "gpus": capacity.gpus - int(used[1])}
    queued = select(Job).where(Job.state == JobState.QUEUED.value).order_by(Job.created_at, Job.id).limit(100)
    for job in session.scalars(queued.with_for_update(skip_locked=True)):
        needs = resources(job.spec)
        too_much = cause_if_too_large(needs, capacity)
        if too_much is not None:
            move(session, job, JobState.FAILED, actor="dispatcher", cause=too_much)
            continue
        lacking = [kind for kind, count in needs.items() if count > free[kind]]
        for kind in lacking:
            free[kind] = 0
        if not lacking:
            return _begin(session, settings, job, needs, pick_actor(needs["gpus"]), now)
    return None


def resources(spec: dict[str, Any]) -> dict[str, int]:
    """What a job occupies. Each of its processes takes a CPU at least, however few threads the spec grants."""
    asked = spec.get("resources") or {}
    gpus = int(asked.get("gpus", 0))
    processes = int(asked.get("processes") or max(gpus, 1))
    return {"cpus": max(int(asked.get("cpus", 1)), processes), "gpus": gpus}


def cause_if_too_large(needs: dict[str, int], capacity: Capacity) -> str | None:
    if needs["cpus"] > capacity.cpus:
        return (
            f"the job needs {needs['cpus']} CPUs and there are {capacity.cpus}: lower resources.cpus, and "
            "resources.processes where it is given"
        )
    if needs["gpus"] > capacity.gpus:
        there = f"there are {capacity.gpus}" if capacity.gpus > 1 else f"there is {capacity.gpus or 'none'}"
        return f"the job needs {needs['gpus']} GPU and {there}: set resources.gpus to {capacity.gpus}"
    return None


def _begin(session: Session, settings: Settings, job: Job, needs: dict[str, int], actor: str, now: float) -> Launch:
    number = session.scalar(select(func.coalesce(func.max(Attempt.number), 0)).where(Attempt.job_id == job.id))
    job.epoch += 1
    attempt = Attempt(
        id=new_id("att"),
        job_id=job.id,
        number=int(number or 0) + 1,
        epoch=job.epoch,
        state="starting",
        actor=actor,
        cpus=needs["cpus"],
        gpus=needs["gpus"],
        acked_seq=0,
        lease_until=now + max(settings.lease_seconds, START_GRACE),
        created_at=time.time(),
    )
    session.add(attempt)
    session.flush()
    move(session, job, JobState.STARTING, actor="dispatcher", attempt_id=attempt.id)
    return Launch(attempt.id, attempt.epoch, actor, attempt.gpus)
