"""Box and centerness losses of detectors, one value for each site."""

from __future__ import annotations

import torch
from torch import Tensor

from bcd import boxes as B

_MEASURES = {"iou": B.iou, "giou": B.giou, "diou": B.diou, "ciou": B.ciou}


def box_loss(kind: str, boxes: Tensor, target: Tensor) -> Tensor:
    """Loss (...) of boxes (..., 4) xyxy against target boxes.

    `kind`: "iou", "giou", "diou", "ciou" (1 minus that measure) or "log_iou": -ln IoU, IoU at least 1e-6 (UnitBox, Yu
    et al., ACM MM 2016; FCOS).

    Raises:
        ValueError: unknown kind.
    """
    if kind == "log_iou":
        return -B.iou(boxes, target).clamp(min=B.EPS).log()
    if kind not in _MEASURES:
        raise ValueError(f"kind must be one of log_iou, {', '.join(_MEASURES)}, not {kind!r}")
    return 1 - _MEASURES[kind](boxes, target)


def centerness_target(distances: Tensor) -> Tensor:
    """Centerness (...) in [0, 1] of a site at distances (..., 4) from the left, top, right and bottom sides of its box
    (FCOS, equation 3): sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)). 0 outside the box."""
    left, top, right, bottom = distances.clamp(min=0).unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=B.EPS)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=B.EPS)
    return (across * down).sqrt()
