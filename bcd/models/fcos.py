"""FCOS detector (Tian et al., ICCV 2019): distances from points to the sides of a box, and centerness."""

from __future__ import annotations

from torch import Tensor, nn

from bcd import boxes as B
from bcd.models.backbones import Backbone
from bcd.models.detector import Detector
from bcd.models.heads import PRIOR_PROBABILITY, Head, HeadMaps, Scale, flatten_sites, prediction
from bcd.models.options import DetectorOptions, Variant, given
from bcd.models.sites import Priors
from bcd.types import DenseOutputs, SiteGrid

# Largest exponent of a distance: e^12 pixels are more than any image has, and e^89 would overflow.
MAX_EXPONENT = 12.0


class FCOSHead(Head):
    """Two towers; class, box and centerness layers, shared by all levels."""

    def __init__(self, options: DetectorOptions):
        super().__init__(options)
        channels = options.fpn_channels
        self.cls = prediction(channels, options.num_classes, PRIOR_PROBABILITY)
        self.reg = prediction(channels, 4)
        self.centerness = prediction(channels, 1)
        self.scales = nn.ModuleList(Scale() for _ in options.strides)
        self.centerness_on = options.variant.centerness_on

    def predict(self, cls: Tensor, reg: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        centerness = self.centerness(cls if self.centerness_on == "cls" else reg)
        return self.cls(cls), self.scales[level](self.reg(reg)).float(), centerness


class FCOS(Detector):
    """FCOS: backbone, pyramid and head. Build it with `bcd.build_detector("fcos", ...)`."""

    published = Variant(fpn_relu=True, centre_offset=0.5, centerness_on="cls")
    head_type = FCOSHead

    def __init__(self, backbone: Backbone, options: DetectorOptions):
        variant = options.variant
        side = given(options.prior_scale, 8.0)
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
        return DenseOutputs(logits_BAC, boxes_BA4, None, centerness_BA, features, grid, maps.trace)
