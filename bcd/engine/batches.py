"""The parts of a step's batch: what each process runs at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from torch import Tensor

from bcd.data.transforms import draw_augmentation
from bcd.methods.teacher import View
from bcd.spec import AugmentSpec
from bcd.types import Targets


class WholeBatch(Protocol):
    @property
    def images_B3HW(self) -> Tensor: ...
    @property
    def targets(self) -> Targets: ...
    @property
    def image_ids(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Part:
    """Images (B, 3, H, W) uint8 with their targets and ids. `views` say which of them are mirrored, for a teacher
    whose outputs were kept."""

    images_B3HW: Tensor
    targets: Targets
    image_ids: tuple[int, ...]
    views: tuple[View, ...] = ()


@dataclass(frozen=True)
class Split:
    """How a step's batch is shared out: `world` processes, each of which runs `accumulate` parts in turn.

    Part `n` of all takes the positions n, n + parts, n + 2 * parts, ... of the batch, so that labelled and unlabelled
    images, which a batch holds one after the other, reach every part. Which images a step sees does not depend on it.
    """

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def positions(self, batch_size: int) -> list[tuple[int, ...]]:
        """Positions of the whole batch for each part of this process."""
        parts = self.world * self.accumulate
        return [tuple(range(n * self.world + self.rank, batch_size, parts)) for n in range(self.accumulate)]


def pinned(part: Part) -> Part:
    """In page-locked memory, from which a GPU fetches while the host goes on."""
    tensors = {f.name: getattr(part.targets, f.name) for f in fields(Targets)}
    moved: dict[str, Any] = {name: tensor.pin_memory() for name, tensor in tensors.items() if tensor is not None}
    return Part(part.images_B3HW.pin_memory(), Targets(**moved), part.image_ids, part.views)


def step_parts(
    make: Callable[[int, Sequence[int]], WholeBatch],
    total: int,
    split: Split,
    augment: AugmentSpec | None,
    *,
    seed: int,
    pin: bool,
) -> Callable[[int], list[Part]]:
    """A function that gives the parts of a step (from 0) for this process.

    `make` gives the images at some positions of a step's batch, whose images are `total` in number. Each part is
    padded for itself.
    """

    def one(step: int, positions: Sequence[int]) -> Part:
        batch = make(step, positions)
        views: tuple[View, ...] = ()
        if augment is not None:
            flips = [draw_augmentation(augment, seed=seed, step=step, position=n).flip for n in positions]
            views = tuple(zip(batch.image_ids, flips, strict=True))
        part = Part(batch.images_B3HW, batch.targets, batch.image_ids, views)
        return pinned(part) if pin else part

    return lambda step: [one(step, positions) for positions in split.positions(total)]


def ids_of(parts: Sequence[Part]) -> Iterator[int]:
    for part in parts:
        yield from part.image_ids
