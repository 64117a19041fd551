"""A cluster for tests: no Ray, no processes. Workers are names with a liveness that the test sets."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence

from service.dispatch.backend import BackendAway, Launch, Liveness, Needs, NodeInfo, SweepLaunch


class FakeBackend:
    """Like the Ray backend, `launch` twice under one name starts one worker. `on_start` runs where a worker would."""

    def __init__(self, *sizes: NodeInfo, on_start: Callable[[Launch], None] | None = None):
        self.sizes = list(sizes) or [node("head", cpus=2)]
        self.away = False
        self.workers: dict[str, Liveness] = {}
        self.started: list[Launch] = []
        self.launches: list[Launch] = []
        self.drivers: list[SweepLaunch] = []
        self.killed: list[str] = []
        self.spares: list[str] = []
        self._on_start = on_start

    def nodes(self) -> Sequence[NodeInfo]:
        self._ask()
        return self.sizes

    def warm(self, count: int) -> None:
        if len(self.spares) < count:
            self.spares.append(f"worker-{secrets.token_hex(4)}")

    def pick_actor(self, needs: Needs, nodes: Sequence[str], taken: Collection[str]) -> tuple[str, str | None]:
        idle = [name for name in self.spares if name not in taken]
        if idle and not needs.gpus and needs.processes == 1:
            return idle[0], nodes[0] if nodes else None
        return f"worker-{secrets.token_hex(4)}", nodes[0] if nodes else None

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

    def launch_driver(self, launch: SweepLaunch) -> None:
        self._ask()
        if self.workers.get(launch.actor, "dead") == "dead":
            self.workers[launch.actor] = "alive"
            self.drivers.append(launch)

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


def node(name: str, *, cpus: int, gpus: int = 0, memory: float = 64.0, alive: bool = True) -> NodeInfo:
    """A node whose id is its name."""
    return NodeInfo(name, name, alive, cpus, gpus, memory)
