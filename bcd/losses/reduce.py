"""Division of a summed loss, exactly as the official code divides."""

from __future__ import annotations

import torch
from torch import Tensor

EPS32 = torch.finfo(torch.float32).eps


def divide(total: Tensor, avg_factor: Tensor | float | None, rows: int) -> Tensor:
    """`total / (avg_factor + eps32)`, or without an avg_factor the mean over rows."""
    if avg_factor is None:
        return total / max(rows, 1)
    return total / (avg_factor + EPS32)
