"""Workers cut off from the api for a while (it is stopped): shorter than the lease nothing is launched again."""

from __future__ import annotations

import os
import signal
import time

from tests.faults.world import Outcome, World

STEPS = 150


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("workers cut off from the api", times)
    lease = world.settings.lease_seconds
    for i in range(times):
        jobs = [world.submit(STEPS, seed=2 * i + n) for n in range(2)]
        world.wait_for_step(jobs[0], world.random.randint(1, 60))
        pid = world.tree.pids()["api"]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(world.random.choice([0.2, 0.8, 2.0]) * lease)
        os.kill(pid, signal.SIGCONT)
        for job in jobs:
            ended = world.wait_for_state(job, ("succeeded",))
            if ended is None or len(ended["attempts"]) != 1:
                outcome.broken.append(f"job {job} was started again although its worker was alive all the time")
        world.say(f"{i + 1} of {times}")
    world.drain()
    world.check(outcome)
    return outcome
