"""Loss terms that several detectors share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bcd import boxes as B
from bcd.losses.detection import box_loss, centerness_target
from bcd.losses.focal import ALPHA, GAMMA, focal
from bcd.models.detector import Assignment
from bcd.models.options import DetectorOptions, given
from bcd.types import DenseOutputs


def focal_term(outputs: DenseOutputs, assigned: Assignment, options: DetectorOptions) -> Tensor:
    """Focal loss of all sites over N+."""
    total = focal(
        outputs.logits_BAC.float().flatten(0, 1),
        assigned.label_BA.flatten(),
        assigned.task_weight.flatten(),
        given(options.focal_alpha, ALPHA),
        given(options.focal_gamma, GAMMA),
    )
    return total / assigned.positives


def centerness_terms(outputs: DenseOutputs, assigned: Assignment, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Of the positives: the sum of their box losses, each times its true centerness; the sum of that centerness; the
    binary cross entropy of the predicted centerness over N+.

    All sites are computed and the others weigh 0: positives alone would have to be counted by the host.
    """
    assert outputs.centerness_BA is not None
    positive_BA = assigned.positive_BA.float()
    true_BA = centerness_target(B.to_distances(outputs.grid.centre_A2, assigned.box_BA4))
    weight_BA = true_BA * positive_BA
    boxes = (box_loss(kind, outputs.boxes_BA4, assigned.box_BA4) * weight_BA).sum()
    cross_entropy = F.binary_cross_entropy_with_logits(
        outputs.centerness_BA.float(), true_BA, positive_BA, reduction="sum"
    )
    return boxes, weight_BA.sum(), cross_entropy / assigned.positives
