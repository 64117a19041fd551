"""Whether an exported file says what the detector itself says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bcd.export.graph import NmsGraph
from bcd.export.program import Program
from bcd.types import Detections

# Of logits, and of boxes in units of their level's stride, which is what a head predicts.
TOLERANCE = 1e-4

Run = Callable[..., Sequence[Tensor]]


@dataclass
class Parity:
    """Largest differences between torch and the exported file over `images` images.

    `logits` and `centerness` are raw, `boxes` is in units of the level's stride. With NMS the outputs are compared as
    sets: `unmatched` counts detections of one side without a partner of the same class, a score within 1e-4 and sides
    within a thousandth of the image's longer side, except at the very edge of the score threshold or of a full list;
    `scores` is the largest difference between partners' scores.
    """

    images: int = 0
    sizes: list[list[int]] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)
    detections: int = 0
    unmatched: int = 0

    @property
    def passed(self) -> bool:
        return self.unmatched == 0 and all(value <= TOLERANCE for value in self.differences.values())

    def as_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "passed": self.passed,
            "tolerance": TOLERANCE,
            "images": self.images,
            "sizes": self.sizes,
            "largest_difference": self.differences,
        }
        if "scores" in self.differences:
            out |= {"detections": self.detections, "unmatched": self.unmatched}
        return out

    def _worst(self, name: str, value: Tensor) -> None:
        found = float(value.max()) if value.numel() else 0.0
        # NaN must not pass as "no larger than".
        self.differences[name] = max(self.differences.get(name, 0.0), found if found == found else float("inf"))


@torch.no_grad()
def compare(program: Program, run: Run, batches: Sequence[tuple[Tensor, Tensor]]) -> Parity:
    """Run both on batches of (images (B, 3, H, W), content sizes (B, 2))."""
    parity = Parity()
    for images, sizes in batches:
        inputs = program.inputs_for(images, sizes)
        theirs = tuple(run(*inputs))
        parity.images += len(images)
        if list(images.shape[2:]) not in parity.sizes:
            parity.sizes.append(list(images.shape[2:]))
        if isinstance(program.graph, NmsGraph):
            _compare_detections(parity, program.graph, inputs, theirs)
        else:
            _compare_maps(parity, program, inputs, theirs)
    return parity


def _compare_maps(parity: Parity, program: Program, inputs: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    ours = program.graph(*inputs)
    grid = program.graph.model(program.graph.model.normalize(inputs[0])).grid
    for name, mine, other in zip(program.graph.outputs, ours, theirs, strict=True):
        difference = (mine - other).abs()
        if name == "boxes":
            difference = difference / grid.stride_A[:, None]
        parity._worst(name, difference)


def _compare_detections(
    parity: Parity, graph: NmsGraph, inputs: tuple[Tensor, ...], theirs: tuple[Tensor, ...]
) -> None:
    images, sizes = inputs
    model, options = graph.model, graph.options
    ours = model.predict(model.normalize(images), sizes, options)
    for mine, other in zip(ours, as_detections(theirs), strict=True):
        partner = partners(mine, other, longest=float(max(images.shape[2:])))
        # What lies at the threshold, or at the end of a full list, may fall on either side of it.
        edges = [options.score_threshold]
        if options.max_detections in (len(mine.scores_N), len(other.scores_N)):
            edges += [float(one.scores_N.min()) for one in (mine, other) if len(one.scores_N)]
        for side, lonely in ((mine, ~partner.any(1)), (other, ~partner.any(0))):
            near = torch.stack([(side.scores_N - edge).abs() <= TOLERANCE for edge in edges]).any(0)
            parity.unmatched += int((lonely & ~near).sum())
        parity.detections += len(mine.scores_N)
        first, second = partner.nonzero().unbind(1)
        parity._worst("scores", (mine.scores_N[first] - other.scores_N[second]).abs())


def partners(a: Detections, b: Detections, *, longest: float) -> Tensor:
    """(len a, len b) bool: detections that are the same but for rounding."""
    near = (a.boxes_N4[:, None] - b.boxes_N4[None]).abs().amax(-1) <= 1e-3 * longest
    same = a.labels_N[:, None] == b.labels_N[None]
    return near & same & ((a.scores_N[:, None] - b.scores_N[None]).abs() <= TOLERANCE)


def as_detections(outputs: Sequence[Tensor]) -> list[Detections]:
    """`Detections` of each image from a graph's padded boxes, scores, labels and count."""
    boxes, scores, labels, count = outputs
    lists = zip(boxes, scores, labels, count.tolist(), strict=True)
    return [Detections(box[:n], score[:n], label[:n]) for box, score, label, n in lists]
