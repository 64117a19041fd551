"""Generalized Focal Loss detector (Li et al., NeurIPS 2020): one class map and a box-distance distribution per site."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bcd import boxes as B
from bcd.assign.atss import TOPK, assign_atss
from bcd.assign.common import sites_inside
from bcd.distributed import mean_over_processes
from bcd.losses import distribution_focal, quality_focal
from bcd.losses.detection import box_loss
from bcd.models.backbones import Backbone
from bcd.models.detector import Assignment, Detector, make_assignment
from bcd.models.heads import PRIOR_PROBABILITY, Head, HeadMaps, Scale, flatten_sites, prediction
from bcd.models.options import DetectorOptions, given
from bcd.models.sites import Priors
from bcd.types import DenseOutputs, SiteGrid, Targets


@dataclass(frozen=True)
class GFLLoss:
    """Weights of the task loss, and two choices in which BCKD's release differs from plain GFL.

    Plain GFL (our default for every student, distilled or not) adds nothing to the quality weights and divides by
    at least 1. BCKD's release adds 1e-4 twice and does not clamp; `GFLLoss.bckd_release()` reproduces it.
    """

    box: float = 2.0
    dfl: float = 0.25
    quality_offset: float = 0.0
    min_divisor: float = 1.0
    divisor_offset: float = 0.0

    @classmethod
    def bckd_release(cls) -> GFLLoss:
        return cls(quality_offset=2e-4, min_divisor=0.0, divisor_offset=1e-6)


class GFLHead(Head):
    """Two towers and two prediction layers, shared by all levels."""

    def __init__(self, options: DetectorOptions):
        super().__init__(options)
        channels = options.fpn_channels
        self.cls = prediction(channels, options.num_classes, PRIOR_PROBABILITY)
        self.reg = prediction(channels, 4 * (options.reg_max + 1))
        self.scales = nn.ModuleList(Scale() for _ in options.strides)

    def predict(self, cls: Tensor, reg: Tensor, level: int) -> tuple[Tensor, Tensor, None]:
        return self.cls(cls), self.scales[level](self.reg(reg)).float(), None


class GFL(Detector):
    """GFL: backbone, pyramid and head. Build it with `bcd.build_detector("gfl", ...)`."""

    head_type = GFLHead

    def __init__(self, backbone: Backbone, options: DetectorOptions, loss: GFLLoss | None = None):
        variant = options.variant
        side = given(options.prior_scale, 8.0)
        super().__init__(backbone, options, Priors.square(side, variant.centre_offset, variant.dynamic_strides))
        self.reg_max, self.loss = options.reg_max, loss or GFLLoss()
        self.bins_R: Tensor
        self.register_buffer("bins_R", torch.arange(self.reg_max + 1, dtype=torch.float32), persistent=False)

    def decode(self, maps: HeadMaps, features: tuple[Tensor, ...], grid: SiteGrid) -> DenseOutputs:
        device = maps.reg[0].device
        logits_BAC = flatten_sites(maps.cls, maps.cls[0].shape[1])
        dist_BA4R = flatten_sites(maps.reg, maps.reg[0].shape[1])
        dist_BA4R = dist_BA4R.view(*dist_BA4R.shape[:2], 4, self.reg_max + 1)
        # Expected distance in units of the stride (equation 4). Autocast would do this product in bf16.
        with torch.autocast(device.type, enabled=False):
            distance_BA4 = dist_BA4R.softmax(dim=-1) @ self.bins_R.float()
        boxes_BA4 = B.from_distances(grid.centre_A2, distance_BA4 * grid.stride_A[:, None])
        return DenseOutputs(logits_BAC, boxes_BA4, dist_BA4R, None, features, grid, maps.trace)

    def assign(self, outputs: DenseOutputs, targets: Targets) -> Assignment:
        box_BA, positive_BA = assign_atss(outputs.grid, targets)
        inside_BA = sites_inside(outputs.grid, targets.sizes_B2)
        return make_assignment(targets, box_BA, positive_BA, inside_BA, self.num_classes)

    def task_loss(self, outputs: DenseOutputs, targets: Targets, assigned: Assignment) -> dict[str, Tensor]:
        """Quality focal, box (GIoU) and distribution focal losses (equations 5 and 6), weighted and divided.

        Box losses look at a fixed number of sites, the positives first: at most `TOPK` for each level and box can be
        positive, so the shape depends on the padded boxes alone and nothing waits for the device.
        """
        options, grid, kind = self.loss, outputs.grid, given(self.options.box_loss, "giou")
        logits_BAC = outputs.logits_BAC.float()
        limit = min(len(grid), targets.valid_BG.shape[1] * TOPK * len(grid.strides))
        order_BK = assigned.positive_BA.float().topk(limit, dim=1).indices
        mask_BK = assigned.positive_BA.gather(1, order_BK).float()

        def pick(values: Tensor) -> Tensor:
            shape = order_BK.shape + (1,) * (values.ndim - 2)
            return values.gather(1, order_BK.reshape(shape).expand(-1, -1, *values.shape[2:]))

        stride_BK1 = grid.stride_A[order_BK][..., None]
        centre_BK2 = grid.centre_A2[order_BK] / stride_BK1
        boxes_BK4, target_BK4 = pick(outputs.boxes_BA4) / stride_BK1, pick(assigned.box_BA4) / stride_BK1
        quality_BK = B.iou(boxes_BK4.detach(), target_BK4) * mask_BK
        quality_BA = torch.zeros_like(assigned.site_weight_BA).scatter(1, order_BK, quality_BK)

        weight_BK = (pick(logits_BAC.detach()).amax(-1).sigmoid() + options.quality_offset) * mask_BK
        divisor = mean_over_processes(weight_BK.sum(), least=options.min_divisor) + options.divisor_offset
        distance_BK4 = B.to_distances(centre_BK2, target_BK4).clamp(0, self.reg_max - 0.1)
        assert outputs.dist_BA4R is not None
        dfl_BK4 = distribution_focal(pick(outputs.dist_BA4R).float(), distance_BK4)
        qfl = quality_focal(
            logits_BAC.flatten(0, 1),
            assigned.label_BA.flatten(),
            quality_BA.flatten(),
            assigned.task_weight.flatten(),
        )
        return {
            "qfl": qfl / assigned.positives,
            kind: options.box * (box_loss(kind, boxes_BK4, target_BK4) * weight_BK).sum() / divisor,
            "dfl": options.dfl * (dfl_BK4.mean(-1) * weight_BK).sum() / divisor,
        }
