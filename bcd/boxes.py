"""Arithmetic on xyxy boxes: areas, IoU and GIoU, boxes from distances. Pure functions, any leading shape."""

from __future__ import annotations

import torch
from torch import Tensor

# The official code clamps unions and enclosing areas with this value.
EPS = 1e-6


def area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """IoU (...) of boxes a and b (..., 4) that broadcast against each other."""
    overlap, union = _overlap_and_union(a, b, eps)
    return overlap / union


def giou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """Generalised IoU (...) in [-1, 1] of boxes (..., 4) (Rezatofighi et al., CVPR 2019, algorithm 1)."""
    overlap, union = _overlap_and_union(a, b, eps)
    low, high = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    side = (high - low).clamp(min=0)
    enclosing = (side[..., 0] * side[..., 1]).clamp(min=eps)
    return overlap / union - (enclosing - union) / enclosing


def from_distances(centres: Tensor, distances: Tensor) -> Tensor:
    """Boxes (..., 4) from centres (..., 2) and distances (..., 4) to the left, top, right and bottom sides."""
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)


def to_distances(centres: Tensor, boxes: Tensor) -> Tensor:
    """Distances (..., 4) from centres (..., 2) to the sides of boxes (..., 4). Inverse of `from_distances`."""
    return torch.cat([centres - boxes[..., :2], boxes[..., 2:] - centres], dim=-1)


def clip(boxes: Tensor, height: Tensor | float, width: Tensor | float) -> Tensor:
    """Boxes (N, 4) clipped to an image of the given size."""
    limit = torch.stack([torch.as_tensor(v, dtype=boxes.dtype, device=boxes.device) for v in (width, height) * 2])
    return torch.minimum(boxes.clamp(min=0), limit)


def _overlap_and_union(a: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    side = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    overlap = side[..., 0] * side[..., 1]
    return overlap, (area(a) + area(b) - overlap).clamp(min=eps)
