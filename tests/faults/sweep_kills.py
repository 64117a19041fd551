"""kill -9 of the driver of a 64-trial ASHA + TPE sweep at random moments: no trial is repeated, none is missing."""

from __future__ import annotations

import time
from typing import Any

import psutil
from sqlalchemy import func, select

from service.models import Attempt, Job, Sweep, Trial
from tests.faults.world import Outcome, World
from tests.helpers.installation import spec

TRIALS, FEW = 64, 16  # the few where it is done once or twice, as in every CI run
STEPS = 60


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("kill -9 the driver of a sweep", times)
    done = sweeps = 0
    trials = TRIALS if times > 3 else FEW
    while done < times:
        sweep_id = str(world.ask("POST", "/sweeps", json=_sweep(sweeps, trials)).json()["id"])
        sweeps += 1
        next_kill = time.monotonic() + world.random.uniform(2, 15)
        while (state := world.ask("GET", f"/sweeps/{sweep_id}").json()["state"]) in ("searching", "repeating"):
            if done < times and time.monotonic() > next_kill and _kill(world):
                done += 1
                next_kill = time.monotonic() + world.random.uniform(2, 40)
                world.say(f"{done} of {times} drivers killed")
            time.sleep(0.2)
        if state != "succeeded":
            outcome.broken.append(f"sweep {sweep_id} {state}")
        _look(world, outcome, sweep_id, trials)
    outcome.counts |= {"sweeps": sweeps}
    world.drain()
    world.check(outcome)
    return outcome


def _sweep(number: int, trials: int) -> dict[str, Any]:
    return {
        "name": f"kills {number}",
        "job": _job(),
        "space": {
            "schedule.optimizer.lr": {"type": "loguniform", "low": 1e-4, "high": 0.1},
            "student.width": {"type": "choice", "values": [4, 8]},
        },
        "search": {"type": "tpe", "seed": number, "startup": 8},
        "scheduler": {"type": "asha", "grace": 10, "reduction": 3},
        "budget": {"trials": trials},
        "concurrency": 4,
        "promote": {"top": 1, "seeds": 2},
    }


def _job() -> dict[str, Any]:
    """A job that learns a little, so that the scheduler has something to tell trials apart by."""
    job = spec(STEPS)
    data = {"type": "digits-scenes-v1", "train_images": 200, "val_images": 20, "image_size": 96}
    schedule = {**job["schedule"], "checkpoint_every": 30, "log_every": 5}
    return {**job, "data": data, "schedule": schedule, "evaluation": {"every": 10}}


def _kill(world: World) -> bool:
    """kill -9 the driver; False where there is none right now."""
    for process in world.tree.processes():
        try:
            if " ".join(process.cmdline()).startswith("ray::SweepDriver"):
                process.kill()
                return True
        except psutil.Error:
            continue
    return False


def _look(world: World, outcome: Outcome, sweep_id: str, trials: int) -> None:
    """Each trial is one job, with one attempt: none was trained again because its driver had died."""
    with world.database.read() as session:
        jobs = session.execute(
            select(Trial.number, Trial.seed, Job.id, Job.state, func.count(Attempt.id))
            .join(Job, Job.id == Trial.job_id)
            .outerjoin(Attempt, Attempt.job_id == Job.id)
            .where(Trial.sweep_id == sweep_id)
            .group_by(Trial.number, Trial.seed, Job.id, Job.state)
        ).all()
        epoch = session.get_one(Sweep, sweep_id).epoch
    world.acknowledged += [row[2] for row in jobs]
    searched = [row for row in jobs if row[0] > 0 and row[1] == 0]
    if sorted(row[0] for row in searched) != list(range(1, trials + 1)):
        outcome.broken.append(f"sweep {sweep_id} has trials {sorted(row[0] for row in searched)}")
    repeated = [row[0] for row in jobs if row[4] > 1]
    if repeated:
        outcome.broken.append(f"sweep {sweep_id}: trials {repeated} ran more than once")
    if failed := [row[0] for row in jobs if row[3] == "failed"]:
        outcome.broken.append(f"sweep {sweep_id}: trials {failed} failed")
    outcome.counts["drivers"] = outcome.counts.get("drivers", 0) + epoch
    ended = [row for row in searched if row[3] == "succeeded"]
    outcome.counts["trials to their end"] = outcome.counts.get("trials to their end", 0) + len(ended)
    outcome.counts["stopped early"] = outcome.counts.get("stopped early", 0) + len(searched) - len(ended)
