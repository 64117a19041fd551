"""What the losses over whole class maps share: the division of the official code, and rows in cache-sized blocks."""

from __future__ import annotations

import torch
from torch import Tensor

# Elements that a CPU pass handles at once: a few temporaries of this size stay in the second-level cache.
CPU_BLOCK = 65536

EPS32 = torch.finfo(torch.float32).eps


def divide(total: Tensor, avg_factor: Tensor | float | None, rows: int) -> Tensor:
    """`total / (avg_factor + eps32)`, or without an avg_factor the mean over rows."""
    if avg_factor is None:
        return total / max(rows, 1)
    return total / (avg_factor + EPS32)


def row_blocks(maps: Tensor) -> list[slice]:
    """Slices over the rows of (N, C) maps: blocks that fit the cache on a CPU, one block elsewhere."""
    rows, columns = maps.shape
    if maps.device.type != "cpu":
        return [slice(0, rows)]
    step = max(CPU_BLOCK // max(columns, 1), 1)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
