"""CrossKD: the student's maps go on through the teacher's head (Wang et al., CVPR 2024; written from the paper alone).

What the teacher's head makes of the student's maps is compared with what it makes of its own, so that the student's
own head is left to the labels. The teacher's weights do not change; gradient reaches the student's maps through them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bcd.distributed import mean_over_processes
from bcd.losses import binary_distillation_sum, sigmoid_kl_sum, softmax_kl
from bcd.losses.box import IOU_KINDS
from bcd.losses.feature import moments
from bcd.losses.reduce import EPS32, divide
from bcd.methods.base import Method, Step, own_conv, own_generator
from bcd.methods.features import common_levels, fit, width
from bcd.models.detector import Detector
from bcd.spec import CrossKdMethod
from bcd.types import DenseOutputs, HeadTrace

# Keeps the factor of a constant channel finite.
_EPS = 1e-6

BoxLoss = Literal["kl", "giou", "iou", "diou", "ciou"]


@dataclass(frozen=True)
class Published:
    """The paper's settings for a family of heads, chosen by the teacher's: it is its head that is used twice."""

    cls: float
    loc: float
    ctr: float
    box_loss: BoxLoss
    depth: int


PUBLISHED = {
    "gfl": Published(1.0, 4.0, 0.0, "kl", 3),
    "retinanet": Published(1.0, 1.0, 0.0, "giou", 3),
    "atss": Published(1.0, 1.0, 1.0, "giou", 3),
    "fcos": Published(0.4, 0.75, 0.0, "iou", 2),
}
OTHERS = Published(1.0, 1.0, 0.0, "giou", 3)


class CrossKd(Method):
    """Terms `crosskd_cls`, `crosskd_loc` and, with a centerness, `crosskd_ctr`, over all sites of the teacher."""

    needs = frozenset({"scores", "boxes", "head"})
    spec: CrossKdMethod
    trace: tuple[int, int]

    def __init__(self, spec: CrossKdMethod, student: Detector, teacher: Detector):
        super().__init__(spec, student, teacher)
        published = PUBLISHED.get(teacher.info.arguments["detector"], OTHERS)
        self.cls_weight = published.cls if spec.cls_weight is None else spec.cls_weight
        self.loc_weight = published.loc if spec.loc_weight is None else spec.loc_weight
        self.ctr_weight = published.ctr if spec.ctr_weight is None else spec.ctr_weight
        self.box_loss: BoxLoss = published.box_loss if spec.loc is None else spec.loc
        blocks = len(teacher.head.cls_tower)
        depth = min(published.depth, blocks) if spec.depth is None else spec.depth
        # A student with fewer blocks gives the map after its last one.
        self.trace = (min(depth, len(student.head.cls_tower)), depth)
        self.levels = {theirs: ours for ours, theirs in common_levels(student, teacher)}
        ours, theirs, generator = width(student), width(teacher), own_generator(spec.type)
        # The towers are shared by all levels, and so are these.
        make: Callable[[], nn.Module] = nn.Identity if ours == theirs else (lambda: own_conv(ours, theirs, generator))
        self.adapt_cls, self.adapt_reg = make(), make()

    def forward(self, step: Step) -> dict[str, Tensor]:
        teacher, crossed = step.teacher, step.teacher_head(self.crossed_trace(step))
        weight_BT = self.site_weight(step)
        classes = step.matched.classes.teacher
        ours_BTM, theirs_BTM = (
            (z if classes is None else z[..., classes]).float() for z in (crossed.logits_BAC, teacher.logits_BAC)
        )
        terms = {}
        if self.cls_weight > 0:
            total, _ = binary_distillation_sum(ours_BTM.flatten(0, 1), theirs_BTM.flatten(0, 1), weight_BT.flatten())
            terms["crosskd_cls"] = self.cls_weight * divide(total, step.assigned.distill_divisor, 1)
        # Boxes and centerness count where the teacher sees something.
        u_BT = weight_BT * theirs_BTM.amax(-1).sigmoid()
        divisor = mean_over_processes(u_BT.sum()) + EPS32
        if self.loc_weight > 0:
            terms["crosskd_loc"] = self.loc_weight * (self.box_terms(crossed, teacher) * u_BT).sum() / divisor
        if self.ctr_weight > 0 and crossed.centerness_BA is not None and teacher.centerness_BA is not None:
            ours_N1, theirs_N1 = (c.flatten()[:, None] for c in (crossed.centerness_BA, teacher.centerness_BA))
            terms["crosskd_ctr"] = self.ctr_weight * sigmoid_kl_sum(ours_N1, theirs_N1, u_BT.flatten()) / divisor
        return terms

    def crossed_trace(self, step: Step) -> HeadTrace:
        """The student's maps as the teacher's head wants them; the teacher's own on levels that the student lacks."""
        ours, theirs = step.student.trace_at(self.trace[0]), step.teacher.trace_at(self.trace[1])
        cls, reg = (
            tuple(
                self._as_teachers(adapt(maps[self.levels[level]].float()), own) if level in self.levels else own.float()
                for level, own in enumerate(owns)
            )
            for adapt, maps, owns in ((self.adapt_cls, ours.cls, theirs.cls), (self.adapt_reg, ours.reg, theirs.reg))
        )
        return HeadTrace(cls, reg, self.trace[1])

    def _as_teachers(self, maps: Tensor, own: Tensor) -> Tensor:
        """Maps with the teacher's size and, channel by channel, its mean and deviation over images and places."""
        own = own.detach().float()
        maps = fit(maps, own)
        if not self.spec.standardise:
            return maps
        (mean, deviation), (own_mean, own_deviation) = moments(maps), moments(own)
        # One factor and one offset, exactly 1 and 0 between equal maps.
        scale = (own_deviation + _EPS) / (deviation + _EPS)
        return maps * scale + (own_mean - mean * scale)

    def site_weight(self, step: Step) -> Tensor:
        """(B, T) weight of the teacher's sites: that of the student's location, 0 on levels that the student lacks."""
        ours, theirs, weight_BA = step.student.grid, step.teacher.grid, step.assigned.site_weight_BA
        parts = []
        for level, (height, width_) in enumerate(theirs.shapes):
            if level not in self.levels:
                parts.append(weight_BA.new_zeros(len(weight_BA), height * width_ * theirs.anchors))
                continue
            own = self.levels[level]
            map_BHW = weight_BA[:, ours.levels[own]][:, :: ours.anchors].reshape(-1, *ours.shapes[own])
            map_BHW = fit(map_BHW[:, None], weight_BA.new_empty(1, 1, height, width_))[:, 0]
            parts.append(map_BHW.flatten(1).repeat_interleave(theirs.anchors, dim=1))
        return torch.cat(parts, dim=1)

    def box_terms(self, crossed: DenseOutputs, teacher: DenseOutputs) -> Tensor:
        """(B, T) loss of each site's box: the mean over sides of the KL over bins, or 1 - IoU of a kind."""
        if self.box_loss == "kl":
            assert crossed.dist_BA4R is not None
            assert teacher.dist_BA4R is not None
            return softmax_kl(crossed.dist_BA4R.float(), teacher.dist_BA4R.float()).mean(-1)
        stride_T1 = teacher.grid.stride_A[:, None]
        ours, theirs = (boxes.float() / stride_T1 for boxes in (crossed.boxes_BA4, teacher.boxes_BA4))
        return 1 - IOU_KINDS[self.box_loss](ours, theirs)
