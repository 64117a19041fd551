"""Numbers shared between the processes of one run. Without a process group everything is the identity."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor (any shape, no gradient) over all processes, computed on its device.

    Loss divisors go through here, so that N processes with B images each train as one with N*B would (MMDetection's
    `reduce_mean`).
    """
    if world_size() == 1:
        return value
    value = value.detach() / world_size()
    dist.all_reduce(value)
    return value
