"""Every process dies once at every named point between submit and finish: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bcd.crash import POINTS
from tests.faults.world import Outcome, Setting, World

STEPS = 40
UNHEARD = 0.7  # seconds in which a worker records something
# A dead worker is replaced; at all other points the worker must not even notice.
OF_WORKERS = frozenset({"ticket.fetched", "outbox.first", "result.stored", "final.recorded"})
# The dispatcher only comes there when a worker was lost.
NEEDS_A_LOSS = frozenset({"lost.killed", "replay.half", "lost.written", "lost.committed"})

# Passed once in the life of a dispatcher.
NEEDS_A_NEW_LEADER = frozenset({"leader.taken"})


@contextmanager
def around() -> Iterator[Setting]:
    """Processes learn the points from their environment. A point kills when its mark is not there, and leaves it."""
    with tempfile.TemporaryDirectory(prefix="bcd-crash-marks-") as folder:
        for name in POINTS:
            (Path(folder) / name).touch()  # all off
        os.environ |= {"BCD_CRASH_AT": ",".join(POINTS), "BCD_CRASH_ONCE": folder}
        try:
            yield Setting(more={"marks": Path(folder)})
        finally:
            del os.environ["BCD_CRASH_AT"], os.environ["BCD_CRASH_ONCE"]


def run(world: World, times: int, marks: Path) -> Outcome:
    outcome = Outcome(f"crash at {len(POINTS)} points", times)
    for i in range(times):
        for name in POINTS:
            _one(world, marks, name, seed=i)
            world.say(f"round {i + 1} of {times}: {name}")
    outcome.counts["crashes"] = times * len(POINTS)
    world.drain()
    world.check(outcome)
    return outcome


def _one(world: World, marks: Path, name: str, *, seed: int) -> None:
    (marks / name).unlink()  # on
    job = world.submit(STEPS, seed=seed)
    if name in NEEDS_A_NEW_LEADER:
        world.kill("dispatcher")
    if name in NEEDS_A_LOSS and world.wait_for_step(job, 5):
        worker = world.worker(job)
        if worker is not None:
            _kill_or_freeze(world, worker, name)
    ended = world.wait_for_state(job, ("succeeded",), patience=600)
    assert ended is not None, world.job(job)
    until = time.monotonic() + 30
    while not (marks / name).exists():
        assert time.monotonic() < until, f"nothing came by the point {name}"
        time.sleep(0.1)
    losses = sum(attempt["state"] == "lost" for attempt in ended["attempts"])
    most = 1 if name in OF_WORKERS | NEEDS_A_LOSS else 0
    assert losses <= most, f"{name}: {losses} attempts were lost"


def _kill_or_freeze(world: World, worker: psutil.Process, name: str) -> None:
    if name == "lost.killed":  # the dispatcher ends only workers that are not dead yet
        worker.suspend()
    elif name == "replay.half":  # only what was never delivered is taken over: nobody listens for a moment
        api = psutil.Process(world.tree.pids()["api"])
        api.suspend()
        time.sleep(UNHEARD)
        worker.kill()
        api.resume()
    else:
        worker.kill()
