"""PostgreSQL killed with -9 while jobs run, and away for a while: 503 meanwhile, no acknowledged write is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.faults.world import Outcome, Setting, World
from tests.helpers.postgres import PostgresServer

STEPS = 100


@contextmanager
def around() -> Iterator[Setting]:
    """The database is a PostgreSQL server of its own."""
    with PostgresServer() as server:
        yield Setting({"database_url": server.create_database()}, {"server": server})


def run(world: World, times: int, server: PostgresServer) -> Outcome:
    outcome = Outcome("kill -9 PostgreSQL", times)
    unclear = 0
    for i in range(times):
        jobs = [world.submit(STEPS, seed=2 * i + n) for n in range(2)]
        world.wait_for_step(jobs[0], world.random.randint(1, 40))
        server.kill()
        back = time.monotonic() + world.random.choice([1.0, 3.0, 15.0])
        while time.monotonic() < back:
            unclear += not _says_so(world)
            time.sleep(0.3)
        server.restart()
        for job in jobs:
            ended = world.wait_for_state(job, ("succeeded",))
            if ended is None or len(ended["attempts"]) != 1:
                outcome.broken.append(f"job {job} was started again although its worker was well")
        world.say(f"{i + 1} of {times}")
    if unclear:
        outcome.broken.append(f"{unclear} requests during the outage got something else than 503 with Retry-After")
    world.drain()
    world.check(outcome)
    return outcome


def _says_so(world: World) -> bool:
    try:
        answer = httpx.get(f"{world.settings.api_url}/api/v1/jobs", headers=world.auth(), timeout=20, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code == 503 and "Retry-After" in answer.headers
