"""ATSS detector (Zhang et al., CVPR 2020): one square anchor per location, deltas to it, centerness beside the box."""

from __future__ import annotations

from torch import Tensor

from bcd import boxes as B
from bcd.assign.atss import assign_atss
from bcd.assign.common import sites_inside
from bcd.distributed import mean_over_processes
from bcd.models.backbones import Backbone
from bcd.models.detector import Assignment, Detector, make_assignment
from bcd.models.heads import CenternessHead, HeadMaps, flatten_sites
from bcd.models.options import DetectorOptions, Variant, given
from bcd.models.sites import Priors
from bcd.models.terms import centerness_terms, focal_term
from bcd.types import DenseOutputs, SiteGrid, Targets

# Weight of the box loss, as published.
BOX_WEIGHT = 2.0


class ATSS(Detector):
    """ATSS: backbone, pyramid and head. Build it with `bcd.build_detector("atss", ...)`."""

    published = Variant(box_stds=(0.1, 0.1, 0.2, 0.2))
    head_type = CenternessHead

    def __init__(self, backbone: Backbone, options: DetectorOptions):
        variant = options.variant
        side = given(options.prior_scale, 8.0)
        super().__init__(backbone, options, Priors.square(side, variant.centre_offset, variant.dynamic_strides))

    def decode(self, maps: HeadMaps, features: tuple[Tensor, ...], grid: SiteGrid) -> DenseOutputs:
        variant = self.options.variant
        assert maps.centerness is not None
        deltas_BA4 = flatten_sites(maps.reg, 4).float()
        boxes_BA4 = B.from_deltas(grid.prior_A4, deltas_BA4, variant.box_means, variant.box_stds, variant.max_ratio)
        logits_BAC = flatten_sites(maps.cls, self.options.num_classes)
        centerness_BA = flatten_sites(maps.centerness, 1)[..., 0]
        return DenseOutputs(
            logits_BAC,
            boxes_BA4,
            None,
            centerness_BA,
            features,
            grid,
            maps.trace,
            deltas_BA4=deltas_BA4,
            score=variant.score,
        )

    def assign(self, outputs: DenseOutputs, targets: Targets) -> Assignment:
        box_BA, positive_BA = assign_atss(outputs.grid, targets)
        inside_BA = sites_inside(outputs.grid, targets.sizes_B2)
        return make_assignment(targets, box_BA, positive_BA, inside_BA, self.num_classes)

    def task_loss(self, outputs: DenseOutputs, targets: Targets, assigned: Assignment) -> dict[str, Tensor]:
        """Focal loss, centerness and, weighted by the true centerness, box loss at the positives (section 3.1)."""
        kind = given(self.options.box_loss, "giou")
        boxes, weight, centerness = centerness_terms(outputs, assigned, kind)
        divisor = mean_over_processes(weight, least=1.0)
        return {
            "focal": focal_term(outputs, assigned, self.options),
            kind: BOX_WEIGHT * boxes / divisor,
            "centerness": centerness,
        }
