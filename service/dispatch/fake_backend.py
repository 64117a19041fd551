"""A cluster for tests: no Ray, no processes. Workers are names with a liveness that the test sets."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from service.dispatch.backend import BackendAway, Capacity, Launch, Liveness


class FakeBackend:
    """Like the Ray backend, `launch` twice under one name starts one worker. `on_start` runs where a worker would."""

    def __init__(self, cpus: int = 2, gpus: int = 0, on_start: Callable[[Launch], None] | None = None):
        self.size = Capacity(cpus, gpus)
        self.away = False
        self.workers: dict[str, Liveness] = {}
        self.started: list[Launch] = []
        self.launches: list[Launch] = []
        self.killed: list[str] = []
        self.spares: list[str] = []
        self._on_start = on_start

    def capacity(self) -> Capacity:
        self._ask()
        return self.size

    def warm(self, count: int) -> None:
        if len(self.spares) < count:
            self.spares.append(f"worker-{secrets.token_hex(4)}")

    def pick_actor(self, gpus: float, memory: float | None = None, processes: int = 1) -> str:
        return self.spares[0] if self.spares and not gpus else f"worker-{secrets.token_hex(4)}"

    def launch(self, launch: Launch) -> None:
        self._ask()
        self.launches.append(launch)
        if launch.actor in self.spares:
            self.spares.remove(launch.actor)
        if self.workers.get(launch.actor, "dead") == "dead":
            self.workers[launch.actor] = "alive"
            self.started.append(launch)
            if self._on_start is not None:
                self._on_start(launch)

    def liveness(self, actor: str) -> Liveness:
        return "unknown" if self.away else self.workers.get(actor, "dead")

    def kill(self, actor: str) -> None:
        self.killed.append(actor)
        if not self.away:
            self.workers[actor] = "dead"

    def strays(self, known: set[str]) -> list[str]:
        return [name for name, state in self.workers.items() if state != "dead" and name not in known]

    def _ask(self) -> None:
        if self.away:
            raise BackendAway("the cluster does not answer")
