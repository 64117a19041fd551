"""What the trainer asks of the other processes of its run. One process alone answers itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# The first process may evaluate for hours while the others wait for its word.
_PATIENCE = timedelta(days=7)


def group_timeout(gpu: bool) -> timedelta:
    """How long an operation of the training's own process group may take."""
    return timedelta(minutes=30) if gpu else _PATIENCE


class Processes:
    """This process among those that train together.

    Messages go over a group of their own on the host, which may wait long (one process evaluates, the others wait) and
    never touches the device. `gpu` is the number of this process's GPU among those that it sees, by default its rank.
    """

    def __init__(self, rank: int = 0, world: int = 1, group: Any = None, gpu: int | None = None):
        self.rank, self.world, self._group = rank, world, group
        self.gpu = rank if gpu is None else gpu

    @property
    def first(self) -> bool:
        """Whether this is the process that reports, evaluates and writes files."""
        return self.rank == 0

    def agree(self, value: bool) -> bool:
        """What the first process says."""
        if self.world == 1:
            return value
        flag = torch.tensor([value], dtype=torch.uint8)
        dist.broadcast(flag, 0, group=self._group)
        return bool(flag[0])

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of a host tensor over all processes."""
        if self.world == 1:
            return values
        values = values / self.world
        dist.all_reduce(values, group=self._group)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self._group)
        return found


def processes_of_group(gpu: int | None = None) -> Processes:
    """This process among those of torch's process group, which has been set up. All of them call this."""
    talk = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return Processes(dist.get_rank(), dist.get_world_size(), talk, gpu)
