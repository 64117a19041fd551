"""Box losses: GIoU for supervision, and BCKD's IoU localisation distillation (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from bcd import boxes as B
from bcd.losses.reduce import at_least_fp32, check_weight, divide

IouKind = Literal["giou", "iou", "diou", "ciou"]
IOU_KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "giou": B.giou,
    "iou": B.iou,
    "diou": B.diou,
    "ciou": B.ciou,
}


def giou_loss(boxes: Tensor, target: Tensor) -> Tensor:
    """1 - GIoU (...) of boxes (..., 4), eps 1e-6 as in the official code."""
    return 1 - B.giou(boxes, target)


def iou_localization_distillation(
    student_boxes: Tensor,
    teacher_boxes: Tensor,
    weight: Tensor | None = None,
    avg_factor: Tensor | float | None = None,
    kind: IouKind = "giou",
) -> Tensor:
    """IoU localisation distillation loss of BCKD (ICCV 2023), without the loss weight.

    sum_i u_i (1 - GIoU(b_s, b_t)) / (avg_factor + eps32). It needs boxes only, so any head will do.

    Args:
        student_boxes: (N, 4) xyxy; the official code measures in units of the level's stride.
        teacher_boxes: (N, 4) xyxy, treated as constant.
        weight: (N,) weight of each site, max_j |p_t - p_s| in BCKD; default 1.
        avg_factor: divisor, N+ in the paper; without one the mean over the N rows.
        kind: "giou" as in the official code, "iou" as in the paper's formula, "diou" or "ciou".

    Raises:
        ValueError: shapes do not fit or kind is unknown.
    """
    if student_boxes.shape != teacher_boxes.shape or student_boxes.shape[1:] != (4,):
        raise ValueError(
            f"boxes must both be (N, 4), not {tuple(student_boxes.shape)} and {tuple(teacher_boxes.shape)}"
        )
    if kind not in IOU_KINDS:
        raise ValueError(f"kind must be one of {', '.join(IOU_KINDS)}, not {kind!r}")
    loss = 1 - IOU_KINDS[kind](at_least_fp32(student_boxes), at_least_fp32(teacher_boxes.detach()))
    if weight is not None:
        check_weight(weight, len(loss))
        loss = loss * weight.detach()
    return divide(loss.sum(), avg_factor, student_boxes.shape[0])
