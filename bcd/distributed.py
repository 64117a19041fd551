"""Numbers shared between the processes of one run. Without a process group everything is the identity."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(value: Tensor, least: float | None = None) -> Tensor:
    """The mean of a tensor (any shape, no gradient) over all processes, computed on its device.

    Loss divisors go through here, so that N processes with B images each train as one with N*B would (MMDetection's
    `reduce_mean`). `least` is a lower bound for the sum over all processes, as one process would apply it: a bound on
    the mean would count N times.
    """
    world = world_size()
    if world > 1:
        value = value.detach() / world
        dist.all_reduce(value)
    return value if least is None else value.clamp(min=least / world)
