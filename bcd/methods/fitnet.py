"""Feature imitation at locations inside boxes (FitNets, ICLR 2015; for detectors as LD's code does it)."""

from __future__ import annotations

from torch import Tensor

from bcd.methods.base import Step
from bcd.methods.bckd import level_gate
from bcd.methods.features import FeatureMethod
from bcd.methods.regions import inside_boxes
from bcd.spec import FitNetMethod


class FitNet(FeatureMethod):
    """Term `fitnet_features`: mean squared difference over the locations whose centre lies inside any box."""

    spec: FitNetMethod

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.spec.feature_weight == 0:
            return {}
        region_BA = step.assigned.site_weight_BA * inside_boxes(step.student.grid, step.targets)
        if self.spec.level_gate:
            region_BA = region_BA * level_gate(step.student, step.assigned.positive_BA)
        return {"fitnet_features": self.spec.feature_weight * self.imitation(step, region_BA)}
