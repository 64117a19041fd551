"""What the reconciler needs from a cluster. Two implementations: Ray, and a fake one for tests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

Liveness = Literal["alive", "dead", "unknown"]


class BackendAway(Exception):
    """The cluster gives no answer right now. Nothing is known about any worker."""


@dataclass(frozen=True)
class Capacity:
    """What the whole cluster has, used or not."""

    cpus: int
    gpus: int
    memory: float = math.inf  # GiB


@dataclass(frozen=True)
class Launch:
    """All that it takes to start an attempt's worker. Resources are those of all its processes together."""

    attempt_id: str
    epoch: int
    actor: str
    gpus: float = 0
    memory: float | None = None  # GiB
    processes: int = 1


class Backend(Protocol):
    """A cluster that runs one worker for each attempt, whatever other processes that one starts and ends.

    Calls return quickly or raise `BackendAway`.
    """

    def capacity(self) -> Capacity:
        """Raises `BackendAway`."""

    def warm(self, count: int) -> None:
        """Keep `count` idle workers ready, starting at most one at a time. Called again and again."""

    def pick_actor(self, gpus: float, memory: float | None = None, processes: int = 1) -> str:
        """The name for the next attempt's worker: that of an idle one, or a new one. Reserves nothing."""

    def launch(self, launch: Launch) -> None:
        """Start the attempt in the worker of that name. Doing it again is harmless. Raises `BackendAway`."""

    def liveness(self, actor: str) -> Liveness:
        """`dead` only when the cluster says so; no answer, from the cluster or the worker, is `unknown`."""

    def kill(self, actor: str) -> None:
        """End the worker's process, if it can be reached."""

    def strays(self, known: set[str]) -> list[str]:
        """Workers that exist, are not idle ones and are not among the `known` names."""
