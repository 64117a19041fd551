"""The few types that the rooms of bcd hand to each other.

Shape legend, used as a suffix of tensor names everywhere in `bcd`:
B images, L pyramid levels, A sites (all levels, flat), C classes, M classes that teacher and student share,
G padded ground truths, K candidates, R bins.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class SiteGrid:
    """The static places at which a dense detector predicts, all levels on one flat axis.

    `levels` are the slices of the site axis, level by level; strides and centres are in pixels of the padded input.
    `shapes` are (height, width) of each level's map in locations. A location holds `anchors` sites, next to each other
    on the site axis: 1 for GFL, ATSS and FCOS, 9 for RetinaNet. `prior_A4` are the sites' prior boxes, xyxy in pixels.
    `offset` is where in its cell a centre lies, in strides: 0 at the cell's corner, 0.5 in its middle.
    `layout` is what the sites were made from, hashable: grids of equal layout have equal sites (None: not known).
    """

    level_A: Tensor
    stride_A: Tensor
    centre_A2: Tensor
    prior_A4: Tensor
    levels: tuple[slice, ...]
    strides: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]
    anchors: int = 1
    layout: Hashable = None
    offset: float = 0.0

    def __len__(self) -> int:
        return int(self.level_A.shape[0])


@dataclass(frozen=True)
class HeadTrace:
    """Maps inside the two head towers, level by level (B, channels, H, W): what block `depth` gives before its
    activation (after its norm). Depth 0 is the pyramid itself; depth n has passed n blocks."""

    cls: tuple[Tensor, ...]
    reg: tuple[Tensor, ...]
    depth: int


@dataclass(frozen=True)
class DenseOutputs:
    """Everything that anything may read from a detector: raw class logits and decoded boxes at every site.

    `boxes_BA4` is xyxy in pixels; `dist_BA4R` are raw logits over box-distance bins (None where a head has none);
    `centerness_BA` are raw logits; `deltas_BA4` is the raw code of heads that predict deltas to priors; `features`
    are the pyramid maps (B, channels, H, W), finest first. `trace` holds the towers' maps at the depths for which
    `forward` was asked. `known_BA` is False at sites whose values were not kept (cached teachers); None: all are
    known. `score` is how class probability and centerness rank detections: by their product or by its root.
    """

    logits_BAC: Tensor
    boxes_BA4: Tensor
    dist_BA4R: Tensor | None
    centerness_BA: Tensor | None
    features: tuple[Tensor, ...]
    grid: SiteGrid
    trace: tuple[HeadTrace, ...] = ()
    known_BA: Tensor | None = None
    deltas_BA4: Tensor | None = None
    score: Literal["product", "sqrt"] = "product"

    def trace_at(self, depth: int) -> HeadTrace:
        """The towers' maps at a depth for which `forward` was asked."""
        return next(trace for trace in self.trace if trace.depth == depth)


@dataclass(frozen=True)
class Targets:
    """Padded ground truth of a batch. G may be 0: an image without any box is a valid training image.

    `boxes_BG4` xyxy in pixels; `labels_BG` class indices; `valid_BG` False marks padding;
    `sizes_B2` is (height, width) of each image's content inside the padded input: sites beyond it take no part.
    `labelled_B` is the weight of each image in the task loss: 1, or 0 for an image without labels, which is only
    distilled (None: all 1). `distill_B` is each image's weight in distillation (None: all 1).
    `ignored_BI4` are boxes of ignored objects (crowd, difficult), padded with zeros: what lies in them is neither an
    object nor background (None: it is background).
    """

    boxes_BG4: Tensor
    labels_BG: Tensor
    valid_BG: Tensor
    sizes_B2: Tensor
    labelled_B: Tensor | None = None
    distill_B: Tensor | None = None
    ignored_BI4: Tensor | None = None

    def to(self, device: object) -> Targets:
        parts = (getattr(self, field.name) for field in fields(self))
        return Targets(*(None if t is None else t.to(device, non_blocking=True) for t in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Detections:
    """Detections of one image: (N, 4) xyxy in pixels, (N,) scores in descending order, (N,) class indices."""

    boxes_N4: Tensor
    scores_N: Tensor
    labels_N: Tensor
