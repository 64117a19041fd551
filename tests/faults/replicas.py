"""Three apis and three dispatchers on one PostgreSQL, killed at random: each attempt is launched once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from service import processes
from service.processes import Process
from tests.faults.world import Outcome, Setting, World
from tests.helpers.installation import free_ports
from tests.helpers.postgres import PostgresServer

JOBS_FOR_EACH = 6
REPLICAS = 3


@contextmanager
def around() -> Iterator[Setting]:
    """The database is a PostgreSQL server of its own."""
    with PostgresServer() as server:
        yield Setting({"database_url": server.create_database()})


def run(world: World, times: int) -> Outcome:
    outcome = Outcome(f"kill -9 among {REPLICAS} apis and {REPLICAS} dispatchers", times)
    jobs = JOBS_FOR_EACH * times
    with ExitStack() as stack:
        addresses, replicas = [world.settings.api_url], dict[str, Replica]()
        for port in free_ports(REPLICAS - 1):
            other = replace(world.settings, api_port=port)
            addresses.append(other.api_url)
            replicas[f"api at {port}"] = stack.enter_context(Replica(processes.api(other)))
            replicas[f"dispatcher beside {port}"] = stack.enter_context(Replica(processes.dispatcher(world.settings)))
        for i in range(times):
            for n in range(JOBS_FOR_EACH):
                world.submit(at=world.random.choice(addresses), seed=JOBS_FOR_EACH * i + n)
            time.sleep(world.random.uniform(1.0, 5.0))
            victim = world.random.choice(["api", "dispatcher", *replicas])
            replica = replicas.get(victim)
            outcome.counts["kills"] = outcome.counts.get("kills", 0) + (
                replica.kill() if replica is not None else world.kill_once_there(victim)
            )
            world.say(f"{i + 1} of {times}: {victim} killed, {len(world.acknowledged)} of {jobs} jobs accepted")
        world.drain(patience=60 + 20 * jobs)
        world.check(outcome)
    if outcome.counts["lost"]:
        outcome.broken.append(f"{outcome.counts['lost']:.0f} attempts were given up although no worker was harmed")
    return outcome


class Replica:
    """One more process beside the tree's; after a kill it is started again at once."""

    def __init__(self, wanted: Process):
        self._wanted = wanted

    def __enter__(self) -> Replica:
        self._process = subprocess.Popen(
            self._wanted.command, env=self._wanted.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return self

    def kill(self) -> bool:
        alive = self._process.poll() is None
        self._process.kill()
        self._process.wait()
        self.__enter__()
        return alive

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
