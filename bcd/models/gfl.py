"""Generalized Focal Loss detector (Li et al., NeurIPS 2020): one class map and a box-distance distribution per site."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bcd import boxes as B
from bcd.assign.atss import TOPK, assign_atss, sites_inside
from bcd.losses import distribution_focal, giou_loss, quality_focal
from bcd.models.backbones import Backbone
from bcd.models.detector import Assignment, Detector
from bcd.models.fpn import FPN
from bcd.models.heads import PRIOR_PROBABILITY, Scale, flatten_sites, prediction, tower
from bcd.models.sites import site_grid
from bcd.types import DenseOutputs, Targets


@dataclass(frozen=True)
class GFLLoss:
    """Weights of the task loss, and two choices in which BCKD's release differs from plain GFL.

    Plain GFL (our default for every student, distilled or not) adds nothing to the quality weights and divides by
    at least 1. BCKD's release adds 1e-4 twice and does not clamp; `GFLLoss.bckd_release()` reproduces it.
    """

    giou: float = 2.0
    dfl: float = 0.25
    quality_offset: float = 0.0
    min_divisor: float = 1.0
    divisor_offset: float = 0.0

    @classmethod
    def bckd_release(cls) -> GFLLoss:
        return cls(quality_offset=2e-4, min_divisor=0.0, divisor_offset=1e-6)


class GFLHead(nn.Module):
    """Two towers and two prediction layers, shared by all levels."""

    def __init__(self, channels: int, stacked_convs: int, num_classes: int, reg_max: int, levels: int):
        super().__init__()
        self.cls_tower, self.reg_tower = tower(channels, stacked_convs), tower(channels, stacked_convs)
        self.cls = prediction(channels, num_classes, PRIOR_PROBABILITY)
        self.reg = prediction(channels, 4 * (reg_max + 1))
        self.scales = nn.ModuleList(Scale() for _ in range(levels))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        cls_maps, reg_maps = [], []
        for feature, scale in zip(features, self.scales, strict=True):
            cls_feature = reg_feature = feature
            for block in self.cls_tower:
                cls_feature = block(cls_feature)
            for block in self.reg_tower:
                reg_feature = block(reg_feature)
            cls_maps.append(self.cls(cls_feature))
            reg_maps.append(scale(self.reg(reg_feature)).float())
        return cls_maps, reg_maps


class GFL(Detector):
    """GFL: backbone, pyramid and head. Build it with `bcd.build_detector("gfl", ...)`."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        fpn_channels: int,
        stacked_convs: int,
        strides: tuple[int, ...],
        reg_max: int,
        prior_scale: float = 8.0,
        loss: GFLLoss | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.fpn = FPN(backbone.channels, fpn_channels, len(strides))
        self.head = GFLHead(fpn_channels, stacked_convs, num_classes, reg_max, len(strides))
        self.strides, self.reg_max, self.prior_scale = strides, reg_max, prior_scale
        self.loss = loss or GFLLoss()
        self.bins_R: Tensor
        self.register_buffer("bins_R", torch.arange(reg_max + 1, dtype=torch.float32), persistent=False)

    def forward(self, images_B3HW: Tensor) -> DenseOutputs:
        """Normalised images (B, 3, H, W), of any height and width, to raw outputs.

        Boxes and distributions are fp32, also under autocast: bf16 would move a box by pixels.
        """
        features = self.fpn(self.backbone(images_B3HW))
        cls_maps, reg_maps = self.head(features)
        shapes = [(m.shape[-2], m.shape[-1]) for m in cls_maps]
        grid = site_grid(shapes, self.strides, images_B3HW.device, self.prior_scale)
        logits_BAC = flatten_sites(cls_maps, cls_maps[0].shape[1])
        dist_BA4R = flatten_sites(reg_maps, reg_maps[0].shape[1])
        dist_BA4R = dist_BA4R.view(*dist_BA4R.shape[:2], 4, self.reg_max + 1)
        # Expected distance in units of the stride (equation 4). Autocast would do this product in bf16.
        with torch.autocast(images_B3HW.device.type, enabled=False):
            distance_BA4 = dist_BA4R.softmax(dim=-1) @ self.bins_R.float()
        boxes_BA4 = B.from_distances(grid.centre_A2, distance_BA4 * grid.stride_A[:, None])
        return DenseOutputs(logits_BAC, boxes_BA4, dist_BA4R, None, features, grid)

    def assign(self, outputs: DenseOutputs, targets: Targets) -> Assignment:
        grid = outputs.grid
        box_BA, positive_BA = assign_atss(grid, targets)
        if targets.labels_BG.shape[1] == 0:
            label_BA = torch.full_like(box_BA, self.num_classes)
            box_BA4 = grid.prior_A4.expand(len(box_BA), -1, -1)
        else:
            label_BA = torch.where(positive_BA, targets.labels_BG.gather(1, box_BA), self.num_classes)
            box_BA4 = targets.boxes_BG4.gather(1, box_BA[..., None].expand(-1, -1, 4))
        return Assignment(
            label_BA=label_BA,
            box_BA4=box_BA4,
            positive_BA=positive_BA,
            site_weight_BA=sites_inside(grid, targets.sizes_B2).float(),
            positives=positive_BA.sum(1).clamp(min=1).sum().float(),
        )

    def task_loss(self, outputs: DenseOutputs, targets: Targets, assigned: Assignment) -> dict[str, Tensor]:
        """Quality focal, GIoU and distribution focal losses (equations 5 and 6), weighted and divided, as scalars.

        Box losses look at a fixed number of sites, the positives first: at most `TOPK` for each level and box can be
        positive, so the shape depends on the padded boxes alone and nothing waits for the device.
        """
        options, grid = self.loss, outputs.grid
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
        divisor = weight_BK.sum().clamp(min=options.min_divisor) + options.divisor_offset
        distance_BK4 = B.to_distances(centre_BK2, target_BK4).clamp(0, self.reg_max - 0.1)
        assert outputs.dist_BA4R is not None
        dfl_BK4 = distribution_focal(pick(outputs.dist_BA4R).float(), distance_BK4)
        qfl = quality_focal(
            logits_BAC.flatten(0, 1),
            assigned.label_BA.flatten(),
            quality_BA.flatten(),
            assigned.site_weight_BA.flatten(),
        )
        return {
            "qfl": qfl / assigned.positives,
            "giou": options.giou * (giou_loss(boxes_BK4, target_BK4) * weight_BK).sum() / divisor,
            "dfl": options.dfl * (dfl_BK4.mean(-1) * weight_BK).sum() / divisor,
        }
