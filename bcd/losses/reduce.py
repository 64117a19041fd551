"""What the losses share: checks, the division of the official code, and rows in cache-sized blocks."""

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


def check_weight(weight: Tensor, rows: int) -> None:
    """Refuse weights that are not one for each row: (N, 1) would broadcast to a wrong loss without an error."""
    if not isinstance(weight, Tensor) or weight.shape != (rows,):
        found = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"weight must be a tensor of shape ({rows},), one value for each row, not {found}")


def at_least_fp32(values: Tensor) -> Tensor:
    """bf16 and fp16 as fp32, others unchanged: a probability near 1 has two digits in bf16."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def row_blocks(maps: Tensor) -> list[slice]:
    """Slices over the rows of (N, C) maps: blocks that fit the cache on a CPU, one block elsewhere."""
    rows, columns = maps.shape
    if maps.device.type != "cpu":
        return [slice(0, rows)]
    step = max(CPU_BLOCK // max(columns, 1), 1)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
