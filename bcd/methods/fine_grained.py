"""Fine-grained feature imitation (Wang et al., CVPR 2019): at the locations whose priors are near an object."""

from __future__ import annotations

from torch import Tensor

from bcd.methods.base import Step
from bcd.methods.features import FeatureMethod
from bcd.methods.regions import near_best_prior
from bcd.spec import FineGrainedMethod


class FineGrained(FeatureMethod):
    """Term `fine_grained_features`: mean squared difference over the locations with a prior whose IoU with any box is
    above `threshold` times that box's best (section 3.1)."""

    spec: FineGrainedMethod

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.spec.feature_weight == 0:
            return {}
        near_BA = near_best_prior(step.student.grid, step.targets, self.spec.threshold)
        region_BA = step.assigned.site_weight_BA * near_BA
        return {"fine_grained_features": self.spec.feature_weight * self.imitation(step, region_BA)}
