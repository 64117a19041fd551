"""A network of two layers and batches for it: enough for a trainer, which knows no detector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bcd.engine.batches import Part
from bcd.types import Targets


class Toy(nn.Module):
    """Images to one number each; the same weights every time."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.a, self.b = nn.Linear(12, 8), nn.Linear(8, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x.flatten(1).float() / 255)
        return self.b(self.dropout(hidden * hidden.sigmoid()))


def part(step: int, images: int = 4, positions: slice = slice(None)) -> Part:
    """Images of a step, always the same ones."""
    draw = torch.Generator().manual_seed(step)
    pixels = torch.randint(0, 256, (images, 3, 2, 2), dtype=torch.uint8, generator=draw)[positions]
    count = len(pixels)
    targets = Targets(
        torch.zeros(count, 0, 4), torch.zeros(count, 0, dtype=torch.long), torch.zeros(count, 0, dtype=torch.bool),
        torch.full((count, 2), 2.0),
    )  # fmt: skip
    ids = tuple(range(step * images, (step + 1) * images))[positions]
    return Part(pixels, targets, ids)


def task_of(model: nn.Module, poison: int | None = None):
    """A mean loss over the images. An image whose first pixel is `poison` makes it NaN."""

    def task(images, targets, progress, autocast, views) -> dict[str, Tensor]:
        with autocast:
            out = model(images)
        term = (out.float() - 1).square().mean()
        if poison is not None:
            term = term + torch.where((images[:, 0, 0, 0] == poison).any(), torch.nan, 0.0)
        return {"error": term, "loss": term}

    return task
