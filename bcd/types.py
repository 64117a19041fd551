"""The few types that the rooms of bcd hand to each other.

Shape legend, used as a suffix of tensor names everywhere in `bcd`:
B images, L pyramid levels, A sites (all levels, flat), C classes, G padded ground truths, K candidates, R bins.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SiteGrid:
    """The static places at which a dense detector predicts, all levels on one flat axis.

    `levels` are the slices of the site axis, level by level; strides and centres are in pixels of the padded input.
    """

    level_A: Tensor
    stride_A: Tensor
    centre_A2: Tensor
    prior_A4: Tensor
    levels: tuple[slice, ...]
    strides: tuple[int, ...]

    def __len__(self) -> int:
        return int(self.level_A.shape[0])


@dataclass(frozen=True)
class DenseOutputs:
    """Everything that anything may read from a detector: raw class logits and decoded boxes at every site.

    `boxes_BA4` is xyxy in pixels; `dist_BA4R` are raw logits over box-distance bins (None where a head has none);
    `features` are the pyramid maps (B, channels, H, W), finest first.
    """

    logits_BAC: Tensor
    boxes_BA4: Tensor
    dist_BA4R: Tensor | None
    centerness_BA: Tensor | None
    features: tuple[Tensor, ...]
    grid: SiteGrid


@dataclass(frozen=True)
class Targets:
    """Padded ground truth of a batch. G may be 0: an image without any box is a valid training image.

    `boxes_BG4` xyxy in pixels; `labels_BG` class indices; `valid_BG` False marks padding;
    `sizes_B2` is (height, width) of each image's content inside the padded input: sites beyond it take no part.
    """

    boxes_BG4: Tensor
    labels_BG: Tensor
    valid_BG: Tensor
    sizes_B2: Tensor

    def to(self, device: object) -> Targets:
        return Targets(*(t.to(device) for t in (self.boxes_BG4, self.labels_BG, self.valid_BG, self.sizes_B2)))  # type: ignore[call-overload]


@dataclass(frozen=True)
class Detections:
    """Detections of one image: (N, 4) xyxy in pixels, (N,) scores in descending order, (N,) class indices."""

    boxes_N4: Tensor
    scores_N: Tensor
    labels_N: Tensor
