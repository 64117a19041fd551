"""MLflow dead or hanging while jobs run: no job notices, and afterwards the mirror is complete."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil

from tests.faults.world import Outcome, World

OUTAGE = 20.0  # seconds


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("MLflow killed or hanging", times)
    until = time.monotonic() + 120
    while not world.tree.mlflow_ready():
        assert time.monotonic() < until, "MLflow does not come up"
        time.sleep(0.5)
    for i in range(times):
        jobs = [world.submit(40, seed=2 * i + n) for n in range(2)]
        if i % 2:
            _hang(world, OUTAGE)
        else:
            _keep_dead(world, OUTAGE)
        for job in jobs:
            ended = world.wait_for_state(job, ("succeeded",))
            if ended is None:
                outcome.broken.append(f"job {job} did not succeed while MLflow was away")
        world.say(f"{i + 1} of {times}")
    world.drain()
    world.check(outcome)
    if outcome.counts["lost"]:
        outcome.broken.append("attempts were lost while MLflow was away")
    return outcome


def _keep_dead(world: World, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        world.kill("mlflow")
        time.sleep(0.5)


def _hang(world: World, seconds: float) -> None:
    pid = world.tree.pids().get("mlflow")
    if pid is None:
        return
    group = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in group:
        os.kill(process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    for process in group:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
