"""Cancel, pause and resume at random instants: jobs end soon, free their place, and never come back to life."""

from __future__ import annotations

import time

from tests.faults.world import Outcome, World

STEPS = 200
SOON = 60.0  # seconds from the request to the state that it asked for


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("cancel, pause and resume at random", times)
    slowest, asked = 0.0, 0
    while asked < times:
        job = world.submit(STEPS, seed=asked)
        time.sleep(world.random.uniform(0.0, 8.0))
        for _ in range(world.random.randint(0, 2)):
            asked += 1
            since = time.monotonic()
            if world.ask("POST", f"/jobs/{job}/pause").status_code != 200:
                break
            if world.wait_for_state(job, ("paused",)) is None:
                break
            slowest = max(slowest, time.monotonic() - since)
            world.ask("POST", f"/jobs/{job}/resume")
            time.sleep(world.random.uniform(0.0, 4.0))
        if world.random.random() < 0.7:
            asked += 1
            since = time.monotonic()
            world.ask("POST", f"/jobs/{job}/cancel")
            world.wait_for_state(job, ("cancelled", "succeeded"))
            slowest = max(slowest, time.monotonic() - since)
        world.say(f"{asked} of {times}")
    world.drain()
    outcome.counts["slowest (s)"] = round(slowest, 1)
    if slowest > SOON:
        outcome.broken.append(f"a stop took {slowest:.0f} s, more than {SOON:.0f}")
    world.check(outcome)
    return outcome
