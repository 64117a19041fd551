"""What is free of each node while a plan is made: CPUs, memory, and every GPU by itself.

Ray places workers and does not say on which GPU, so shares of GPUs are laid out here as Ray does it: into the fullest
GPU that still has room. After some of them ended Ray's layout may be another one, and a worker that does not start is
the sign of it. Its job then asks to be `alone`: for a GPU that is surely not shared, wherever the shares lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.dispatch.backend import Needs, NodeInfo

KINDS = ("gpus", "cpus", "memory")  # the scarcest first
_DUST = 1e-6  # what sums of shares may be off


def of_each_process(needs: Needs) -> Needs:
    """What one of the processes takes; each must fit one node."""
    n = needs.processes
    memory = None if needs.memory is None else needs.memory / n
    return replace(needs, cpus=needs.cpus / n, gpus=needs.gpus / n, memory=memory, processes=1)


class Room:
    """One node."""

    def __init__(self, node: NodeInfo):
        self.node = node
        self.cpus, self.memory = float(node.cpus), node.memory
        self.gpus = [1.0] * node.gpus
        self.unshared = node.gpus  # GPUs that nobody has, however the shares are laid out

    def count(self, process: Needs, kind: str, *, alone: bool = False) -> int:
        """How many such processes fit if nothing but this kind counts."""
        if kind == "gpus":
            if not process.gpus:
                return 1_000_000
            if alone:
                return max(0, self.unshared)
            return sum(int((free + _DUST) / process.gpus) for free in self.gpus)
        free, need = (self.cpus, process.cpus) if kind == "cpus" else (self.memory, process.memory)
        return 1_000_000 if not need else max(0, int((free + _DUST) / need))

    def holds(self, process: Needs, *, alone: bool = False) -> int:
        """How many such processes fit."""
        most = self.count(process, "cpus")
        for kind in ("memory", "gpus") if most else ():
            most = min(most, self.count(process, kind, alone=alone))
        return most

    def lacks(self, process: Needs, *, alone: bool = False) -> list[str]:
        return [kind for kind in KINDS if not self.count(process, kind, alone=alone)]

    def take(self, process: Needs) -> None:
        """Occupy it, also where there is not enough: what runs, runs."""
        self.cpus -= process.cpus
        self.memory -= process.memory or 0.0
        self.take_gpu(process.gpus)

    def take_gpu(self, share: float) -> None:
        if not share or not self.gpus:
            return
        self.unshared -= 1
        fitting = [i for i, free in enumerate(self.gpus) if free + _DUST >= share]
        fullest = min(fitting, key=lambda i: self.gpus[i]) if fitting else self.emptiest()
        self.gpus[fullest] = max(0.0, self.gpus[fullest] - share)

    def emptiest(self) -> int:
        return max(range(len(self.gpus)), key=lambda i: self.gpus[i])

    def missing(self, process: Needs) -> tuple[float, float, float]:
        """How far it is from holding the process, by kind: parts of what is needed."""
        gpus = max(0.0, process.gpus - max(self.gpus, default=0.0))
        cpus = max(0.0, process.cpus - self.cpus) / process.cpus
        memory = max(0.0, process.memory - self.memory) / process.memory if process.memory else 0.0
        return gpus, cpus, memory

    def close(self, kind: str) -> None:
        """Let nobody else have what is free of this kind; of GPUs the one that is nearest to being free."""
        if kind == "cpus":
            self.cpus = min(self.cpus, 0.0)
        elif kind == "memory":
            self.memory = min(self.memory, 0.0)
        else:
            self.gpus[self.emptiest()] = 0.0
            self.unshared -= 1


def place(rooms: Sequence[Room], needs: Needs, *, force: bool = False) -> bool:
    """Occupy room for all processes, as many as possible on one node after another; False where they do not fit.

    `force` occupies it all the same: for attempts that run and of which nobody knows where.
    """
    process = of_each_process(needs)
    counts = {room: room.holds(process) for room in rooms}
    if not force and sum(counts.values()) < needs.processes:
        return False
    left = needs.processes
    for room in sorted(rooms, key=lambda room: -counts[room]):
        for _ in range(min(left, counts[room])):
            room.take(process)
            left -= 1
    for _ in range(left if rooms else 0):
        max(rooms, key=lambda room: (sum(room.gpus) if process.gpus else 0.0, room.cpus)).take(process)
    return True
