"""FCOS detector (Tian et al., ICCV 2019): distances from points to the sides of a box, and centerness."""

from __future__ import annotations

from torch import Tensor

from bcd import boxes as B
from bcd.assign.common import sites_inside
from bcd.assign.fcos import CENTRE_SAMPLING, REACH, assign_fcos
from bcd.distributed import mean_over_processes
from bcd.models.backbones import Backbone
from bcd.models.detector import Assignment, Detector, make_assignment
from bcd.models.heads import CenternessHead, HeadMaps, flatten_sites
from bcd.models.options import DetectorOptions, Variant, given
from bcd.models.sites import Priors
from bcd.models.terms import centerness_terms, focal_term
from bcd.types import DenseOutputs, SiteGrid, Targets

# Largest exponent of a distance: e^12 pixels are more than any image has, and e^89 would overflow.
MAX_EXPONENT = 12.0


class FCOS(Detector):
    """FCOS: backbone, pyramid and head. Build it with `bcd.build_detector("fcos", ...)`."""

    published = Variant(fpn_relu=True, centre_offset=0.5, centerness_on="cls")
    head_type = CenternessHead

    def __init__(self, backbone: Backbone, options: DetectorOptions):
        variant = options.variant
        side = given(options.prior_scale, REACH)
        super().__init__(backbone, options, Priors.square(side, variant.centre_offset, variant.dynamic_strides))

    def decode(self, maps: HeadMaps, features: tuple[Tensor, ...], grid: SiteGrid) -> DenseOutputs:
        assert maps.centerness is not None
        raw_BA4 = flatten_sites(maps.reg, 4).float()
        if self.options.variant.box_code == "exp":
            distance_BA4 = raw_BA4.clamp(max=MAX_EXPONENT).exp()
        else:
            distance_BA4 = raw_BA4.relu() * grid.stride_A[:, None]
        boxes_BA4 = B.from_distances(grid.centre_A2, distance_BA4)
        logits_BAC = flatten_sites(maps.cls, self.options.num_classes)
        centerness_BA = flatten_sites(maps.centerness, 1)[..., 0]
        score = self.options.variant.score
        return DenseOutputs(logits_BAC, boxes_BA4, None, centerness_BA, features, grid, maps.trace, score=score)

    def assign(self, outputs: DenseOutputs, targets: Targets) -> Assignment:
        reach = given(self.options.prior_scale, REACH)
        radius = given(self.options.centre_sampling, CENTRE_SAMPLING)
        box_BA, positive_BA = assign_fcos(outputs.grid, targets, reach, radius)
        inside_BA = sites_inside(outputs.grid, targets.sizes_B2)
        return make_assignment(targets, box_BA, positive_BA, inside_BA, self.num_classes, count_empty_images=False)

    def task_loss(self, outputs: DenseOutputs, targets: Targets, assigned: Assignment) -> dict[str, Tensor]:
        """Focal loss, centerness and, weighted by the true centerness, box loss at the positives (equation 2)."""
        kind = given(self.options.box_loss, "log_iou")
        boxes, weight, centerness = centerness_terms(outputs, assigned, kind)
        divisor = mean_over_processes(weight).clamp(min=1e-6)
        return {
            "focal": focal_term(outputs, assigned, self.options),
            kind: boxes / divisor,
            "centerness": centerness,
        }
