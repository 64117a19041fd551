"""What every detector is: images in, `DenseOutputs` out, a task loss, and detections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bcd.models.postprocess import PostprocessOptions, postprocess
from bcd.types import DenseOutputs, Detections, Targets

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class DetectorInfo:
    """What a detector must carry to be used again: how to build it, its classes and its normalisation."""

    arguments: dict[str, Any]
    class_names: tuple[str, ...]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """Which site learns which box. `label_BA` is C for background; `box_BA4` is only meaningful at positives.

    `site_weight_BA` is 0 at sites in the padding, else 1. `positives` is N+: the sum over images of
    max(number of positives, 1), a scalar tensor that is at least 1.
    """

    label_BA: Tensor
    box_BA4: Tensor
    positive_BA: Tensor
    site_weight_BA: Tensor
    positives: Tensor


class Detector(nn.Module):
    """Base class. Subclasses set `info` and implement `forward`, `assign` and `task_loss`."""

    info: DetectorInfo

    @property
    def num_classes(self) -> int:
        return len(self.info.class_names)

    def normalize(self, images_B3HW: Tensor) -> Tensor:
        """uint8 RGB images to the normalised float images that `forward` takes."""
        mean, std = (
            torch.tensor(v, device=images_B3HW.device).view(1, 3, 1, 1) for v in (self.info.mean, self.info.std)
        )
        return (images_B3HW.float() - mean) / std

    def assign(self, outputs: DenseOutputs, targets: Targets) -> Assignment:
        raise NotImplementedError

    def task_loss(self, outputs: DenseOutputs, targets: Targets, assigned: Assignment) -> dict[str, Tensor]:
        raise NotImplementedError

    @torch.inference_mode()
    def predict(self, images_B3HW: Tensor, sizes_B2: Tensor, options: PostprocessOptions) -> list[Detections]:
        """Detections of normalised images, in pixels of the input; boxes are clipped to each image's content."""
        return postprocess(self(images_B3HW), sizes_B2, options)
