"""kill -9 of api and dispatcher at random moments while jobs are submitted and run: no healthy attempt is restarted."""

from __future__ import annotations

import threading
import time

from tests.faults.world import Outcome, World

JOBS_FOR_EACH = 6


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("kill -9 api and dispatcher", times)
    jobs = JOBS_FOR_EACH * times
    submitting = threading.Thread(target=lambda: [world.submit(seed=i) for i in range(jobs)])
    submitting.start()
    for i in range(times):
        time.sleep(world.random.uniform(1.0, 6.0))
        victims = world.random.choice([("api",), ("dispatcher",), ("api", "dispatcher")])
        done = [name for name in victims if world.kill_once_there(name)]
        outcome.counts["kills"] = outcome.counts.get("kills", 0) + len(done)
        if i % 10 == 9:
            world.say(f"{i + 1} of {times} rounds of kills, {len(world.acknowledged)} of {jobs} jobs accepted")
    submitting.join()
    world.drain(patience=60 + 20 * jobs)
    world.check(outcome)
    if outcome.counts["lost"]:
        outcome.broken.append(f"{outcome.counts['lost']:.0f} attempts were given up although no worker was harmed")
    return outcome
