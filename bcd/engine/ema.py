"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

M = TypeVar("M", bound=nn.Module)


class Ema:
    """Holds a copy of the model whose weights follow the model's slowly.

    The decay starts low, min(decay, (1 + n) / (10 + n)) after n updates, so that random initial weights are forgotten.
    """

    def __init__(self, model: M, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        ours: list[Tensor] = list(self.model.parameters())
        theirs: list[Tensor] = list(model.parameters())
        get_ema_multi_avg_fn(decay)(ours, theirs, None)  # type: ignore[no-untyped-call]
        for mine, other in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(other)
