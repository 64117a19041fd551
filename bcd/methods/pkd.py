"""PKD: pyramid maps compared after standardising every channel, so that only their pattern counts (NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd.losses.feature import pearson_mse
from bcd.methods.base import Step
from bcd.methods.features import FeatureMethod
from bcd.models.detector import Detector
from bcd.spec import PkdMethod


class Pkd(FeatureMethod):
    """Term `pkd_features` (equation 4), summed over levels. Whole maps take part, the padding too, as published."""

    spec: PkdMethod

    def __init__(self, spec: PkdMethod, student: Detector, teacher: Detector):
        super().__init__(spec, student, teacher, spec.levels)

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.spec.feature_weight == 0:
            return {}
        weight_B = step.targets.distill_B
        terms = [pearson_mse(student, teacher, weight_B) for _, student, teacher in self.pairs(step)]
        return {"pkd_features": self.spec.feature_weight * torch.stack(terms).sum()}
