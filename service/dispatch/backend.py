"""What the reconciler needs from a cluster. Two implementations: Ray, and a fake one for tests."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Liveness = Literal["alive", "dead", "unknown"]


class BackendAway(Exception):
    """The cluster gives no answer right now. Nothing is known about any worker."""


@dataclass(frozen=True)
class NodeInfo:
    """A machine of the cluster and what it has in all, used or not. `memory` in GiB; `spares`: idle workers there."""

    id: str
    name: str
    alive: bool
    cpus: int
    gpus: int
    memory: float
    spares: int = 0


@dataclass(frozen=True)
class Needs:
    """What an attempt occupies, over all its processes. `gpus` below 1 is a share of one; `memory` in GiB."""

    cpus: float
    gpus: float = 0
    memory: float | None = None  # not counted
    processes: int = 1


@dataclass(frozen=True)
class Launch:
    """All that it takes to start an attempt's worker. `node` is where it should run, None: anywhere."""

    attempt_id: str
    epoch: int
    actor: str
    gpus: float = 0
    memory: float | None = None  # GiB
    processes: int = 1
    node: str | None = None


@dataclass(frozen=True)
class SweepLaunch:
    """All that it takes to start the driver of a sweep."""

    sweep_id: str
    epoch: int
    actor: str


class Backend(Protocol):
    """A cluster that runs one worker for each attempt, whatever other processes that one starts and ends.

    Calls return quickly or raise `BackendAway`.
    """

    def nodes(self) -> Sequence[NodeInfo]:
        """The machines that are there, and maybe some that are gone. Raises `BackendAway` when none is there."""

    def warm(self, count: int) -> None:
        """Keep `count` idle workers ready, starting at most one at a time. Called again and again."""

    def pick_actor(self, needs: Needs, nodes: Sequence[str], taken: Collection[str]) -> tuple[str, str | None]:
        """The name for an attempt's worker and its node: an idle one on one of `nodes`, else a new one on the first.

        Names in `taken` are not picked. No `nodes`: anywhere. Reserves nothing.
        """

    def launch(self, launch: Launch) -> None:
        """Start the attempt in the worker of that name. Doing it again is harmless. Raises `BackendAway`."""

    def launch_driver(self, launch: SweepLaunch) -> None:
        """Start the driver of a sweep in an actor of that name. Doing it again is harmless. Raises `BackendAway`."""

    def liveness(self, actor: str) -> Liveness:
        """`dead` only when the cluster says so; no answer, from the cluster or the worker, is `unknown`."""

    def kill(self, actor: str) -> None:
        """End the worker's process, if it can be reached."""

    def strays(self, known: set[str]) -> list[str]:
        """Workers that exist, are not idle ones and are not among the `known` names."""
