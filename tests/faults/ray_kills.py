"""kill -9 of the Ray head while jobs run: all of them finish, with a new attempt soon after the head is back."""

from __future__ import annotations

import time

from tests.faults.world import Outcome, World

STEPS = 150


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("kill -9 the Ray head", times)
    worst = 0.0
    for i in range(times):
        jobs = [world.submit(STEPS, seed=seed) for seed in (2 * i, 2 * i + 1)]
        world.wait_for_step(jobs[0], world.random.randint(1, 60))
        assert world.kill("ray")
        back = _head_is_back(world)
        while not all(_running_or_done(world.job(job)) for job in jobs):
            assert time.monotonic() - back < 300, "no new attempt"
            time.sleep(0.2)
        worst = max(worst, time.monotonic() - back)
        world.drain()
        world.say(f"{i + 1} of {times}: both jobs run again {worst:.0f} s at most after the head was back")
    outcome.counts["slowest new attempt (s)"] = round(worst)
    if worst > 60:
        outcome.broken.append(f"a new attempt took {worst:.0f} s after the head was back, more than 60")
    world.check(outcome)
    return outcome


def _head_is_back(world: World) -> float:
    import socket

    time.sleep(0.5)
    until = time.monotonic() + 120
    while True:
        try:
            with socket.create_connection(("127.0.0.1", world.settings.ray_port), timeout=1.0):
                return time.monotonic()
        except OSError:
            assert time.monotonic() < until, "the head does not come back"
            time.sleep(0.2)


def _running_or_done(job: dict[str, object]) -> bool:
    attempts = job["attempts"]
    assert isinstance(attempts, list)
    return job["state"] in ("succeeded", "failed") or (job["state"] == "running" and len(attempts) > 1)
