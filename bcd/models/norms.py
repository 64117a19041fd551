"""GroupNorm for any width."""

from __future__ import annotations

from torch import nn


def group_norm(channels: int, most: int, eps: float = 1e-5) -> nn.GroupNorm:
    """GroupNorm with groups of 8 channels, or the next larger groups that divide evenly, and at most `most` groups."""
    wanted = max(1, min(most, channels // 8))
    return nn.GroupNorm(next(n for n in range(wanted, 0, -1) if channels % n == 0), channels, eps)
