"""What feature methods share: which pyramid levels of both models belong together, at equal widths and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bcd.losses.feature import masked_mse_sum
from bcd.methods.base import Method, Step, own_conv, own_generator
from bcd.methods.regions import locations, safe_count
from bcd.models.detector import Detector


class LevelPair(NamedTuple):
    """One pyramid level of both models: the student's index and the maps (B, channels, H, W), fp32."""

    level: int
    student: Tensor
    teacher: Tensor


def common_levels(student: Detector, teacher: Detector) -> list[tuple[int, int]]:
    """(student's level, teacher's level) of equal stride, finest first."""
    place = {stride: level for level, stride in enumerate(teacher.strides)}
    return [(level, place[stride]) for level, stride in enumerate(student.strides) if stride in place]


def width(model: Detector) -> int:
    """Channels of a detector's pyramid and head."""
    return int(model.fpn.outputs[0].out_channels)  # type: ignore[arg-type]


def fit(teacher: Tensor, student: Tensor) -> Tensor:
    """The teacher's map at the student's height and width (they may differ by a rounding of the backbones')."""
    if teacher.shape[-2:] == student.shape[-2:]:
        return teacher
    return F.interpolate(teacher, size=student.shape[-2:], mode="bilinear", align_corners=False)


class FeatureMethod(Method):
    """A method that compares pyramid maps of equal stride. Where widths differ, the student's maps pass a trainable
    1x1 convolution for each level; the teacher's are compared as they are."""

    needs = frozenset({"features"})

    def __init__(self, spec: Any, student: Detector, teacher: Detector, levels: int | None = None):
        super().__init__(spec, student, teacher)
        self.levels = common_levels(student, teacher)[:levels]
        ours, self.channels = width(student), width(teacher)
        generator = own_generator(spec.type)
        self.adapt = nn.ModuleList(
            nn.Identity() if ours == self.channels else own_conv(ours, self.channels, generator) for _ in self.levels
        )

    def pairs(self, step: Step) -> Iterator[LevelPair]:
        """The maps of all common levels. Nothing of the teacher carries gradient."""
        for adapt, (ours, theirs) in zip(self.adapt, self.levels, strict=True):
            student = adapt(step.student.features[ours].float())
            yield LevelPair(ours, student, fit(step.teacher.features[theirs].detach().float(), student))

    def imitation(self, step: Step, region_BA: Tensor) -> Tensor:
        """Mean squared difference over the locations of a region (B, A), the mean of each level, summed over levels.

        The region weighs images too; a location counts when any of its sites is in it.
        """
        terms = []
        for level, student, teacher in self.pairs(step):
            weight_BHW = locations(step.student.grid, region_BA, level)
            terms.append(masked_mse_sum(student, teacher, weight_BHW) / safe_count(weight_BHW))
        return torch.stack(terms).sum()
