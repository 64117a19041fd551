"""RetinaNet detector (Lin et al., ICCV 2017): nine anchors per location, focal loss, deltas to the anchors."""

from __future__ import annotations

import math

from torch import Tensor

from bcd import boxes as B
from bcd.assign.common import sites_inside
from bcd.assign.max_iou import NEGATIVE_IOU, POSITIVE_IOU, assign_max_iou
from bcd.losses.detection import box_loss
from bcd.models.backbones import Backbone
from bcd.models.detector import Assignment, Detector, make_assignment
from bcd.models.heads import PRIOR_PROBABILITY, Head, HeadMaps, flatten_sites, prediction
from bcd.models.options import DetectorOptions, Variant, given
from bcd.models.sites import Priors
from bcd.models.terms import focal_term
from bcd.types import DenseOutputs, SiteGrid, Targets

RATIOS = (0.5, 1.0, 2.0)
PER_OCTAVE = 3
# Weight of box losses other than L1 (MMDetection's RetinaNet with GIoU).
IOU_WEIGHT = 2.0


class RetinaNetHead(Head):
    """Two towers; class and box layers with one group of channels for each anchor, shared by all levels."""

    def __init__(self, options: DetectorOptions):
        super().__init__(options)
        channels, anchors = options.fpn_channels, _anchors(options)
        self.cls = prediction(channels, anchors * options.num_classes, PRIOR_PROBABILITY)
        self.reg = prediction(channels, anchors * 4)

    def predict(self, cls: Tensor, reg: Tensor, level: int) -> tuple[Tensor, Tensor, None]:
        return self.cls(cls), self.reg(reg).float(), None


class RetinaNet(Detector):
    """RetinaNet: backbone, pyramid and head. Build it with `bcd.build_detector("retinanet", ...)`."""

    published = Variant(fpn_extra="input", head_norm="none")
    head_type = RetinaNetHead

    def __init__(self, backbone: Backbone, options: DetectorOptions):
        super().__init__(backbone, options, anchor_priors(options))

    def decode(self, maps: HeadMaps, features: tuple[Tensor, ...], grid: SiteGrid) -> DenseOutputs:
        variant = self.options.variant
        deltas_BA4 = flatten_sites(maps.reg, 4).float()
        boxes_BA4 = B.from_deltas(grid.prior_A4, deltas_BA4, variant.box_means, variant.box_stds, variant.max_ratio)
        logits_BAC = flatten_sites(maps.cls, self.options.num_classes)
        return DenseOutputs(logits_BAC, boxes_BA4, None, None, features, grid, maps.trace, deltas_BA4=deltas_BA4)

    def assign(self, outputs: DenseOutputs, targets: Targets) -> Assignment:
        options = self.options
        box_BA, positive_BA, ignored_BA = assign_max_iou(
            outputs.grid,
            targets,
            given(options.positive_iou, POSITIVE_IOU),
            given(options.negative_iou, NEGATIVE_IOU),
        )
        inside_BA = sites_inside(outputs.grid, targets.sizes_B2)
        return make_assignment(targets, box_BA, positive_BA, inside_BA, self.num_classes, ignored_BA=ignored_BA)

    def task_loss(self, outputs: DenseOutputs, targets: Targets, assigned: Assignment) -> dict[str, Tensor]:
        """Focal loss, and at the positives L1 on the deltas or a loss on the boxes, over N+ (section 4.1)."""
        variant, kind = self.options.variant, given(self.options.box_loss, "l1")
        if kind == "l1":
            assert outputs.deltas_BA4 is not None
            target_BA4 = B.to_deltas(outputs.grid.prior_A4, assigned.box_BA4, variant.box_means, variant.box_stds)
            boxes_BA = (outputs.deltas_BA4 - target_BA4).abs().sum(-1)
        else:
            boxes_BA = IOU_WEIGHT * box_loss(kind, outputs.boxes_BA4, assigned.box_BA4)
        return {
            "focal": focal_term(outputs, assigned, self.options),
            kind: (boxes_BA * assigned.positive_BA).sum() / assigned.positives,
        }


def anchor_priors(options: DetectorOptions) -> Priors:
    """Anchors of every ratio (height over width), and for each every scale of an octave, as MMDetection and
    torchvision order them. torchvision cuts the scales to whole pixels and rounds half the sides."""
    ratios = given(options.anchor_ratios, RATIOS)
    octave, base = given(options.anchors_per_octave, PER_OCTAVE), given(options.prior_scale, 4.0)
    scales = [base * 2 ** (i / octave) for i in range(octave)]
    sizes = tuple((scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for ratio in ratios for scale in scales)
    pixels = None
    if options.variant.round_anchors:
        pixels = tuple(
            tuple(
                (2.0 * round(side / math.sqrt(ratio) / 2), 2.0 * round(side * math.sqrt(ratio) / 2))
                for ratio in ratios
                for side in (int(scale * stride) for scale in scales)
            )
            for stride in options.strides
        )
    return Priors(sizes, options.variant.centre_offset, pixels, options.variant.dynamic_strides)


def _anchors(options: DetectorOptions) -> int:
    return len(given(options.anchor_ratios, RATIOS)) * given(options.anchors_per_octave, PER_OCTAVE)
