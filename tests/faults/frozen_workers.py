"""SIGSTOP a worker past its lease, let another attempt start, SIGCONT: nothing of the stale one is accepted."""

from __future__ import annotations

import contextlib
import signal
import time

import psutil
from sqlalchemy import select

from service.models import Attempt, Point, Series
from tests.faults.world import Outcome, World

STEPS = 150


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("SIGSTOP a worker past its lease, then SIGCONT", times)
    slowest = 0.0
    for i in range(times):
        job = world.submit(STEPS, seed=i)
        world.wait_for_step(job, world.random.randint(1, 100))
        frozen = world.worker(job)
        if frozen is None:
            continue
        # the supervisor is killed when its lease has run out, unless it is awake again by then
        frozen.send_signal(signal.SIGSTOP)
        while len(world.job(job)["attempts"]) < 2:
            time.sleep(0.05)
        with contextlib.suppress(psutil.NoSuchProcess):
            frozen.send_signal(signal.SIGCONT)
        since = time.monotonic()
        while frozen.is_running() and time.monotonic() - since < 60:
            time.sleep(0.1)
        slowest = max(slowest, time.monotonic() - since)
        world.wait_for_state(job, ("succeeded",))
        world.say(f"{i + 1} of {times}")
    if slowest > 30:
        outcome.broken.append(f"a stale worker took {slowest:.0f} s to exit, more than 30")
    outcome.counts["slowest exit (s)"] = round(slowest, 1)
    world.drain()
    world.check(outcome)
    outcome.counts["stale writes accepted"] = _stale_writes(world)
    if outcome.counts["stale writes accepted"]:
        outcome.broken.append("writes of a stale worker were accepted")
    return outcome


def _stale_writes(world: World) -> int:
    """Points that an attempt wrote after it had been closed."""
    with world.database.read() as session:
        query = (
            select(Point.step)
            .join(Series, Series.id == Point.series_id)
            .join(Attempt, (Attempt.job_id == Series.job_id) & (Attempt.number == Point.attempt))
            .where(Attempt.state == "lost", Point.time > Attempt.ended_at)
        )
        return len(session.scalars(query).all())
