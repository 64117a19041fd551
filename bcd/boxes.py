"""Arithmetic on xyxy boxes: areas, IoU and GIoU, boxes from distances. Pure functions, any leading shape.

Columns are taken by `unbind`, not by indexing: its gradient is one stack instead of a zero-filled copy for each column.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The official code clamps unions and enclosing areas with this value.
EPS = 1e-6


def area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4)."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return (x1 - x0) * (y1 - y0)


def iou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """IoU (...) of boxes a and b (..., 4) that broadcast against each other."""
    overlap, union = _overlap_and_union(a.unbind(-1), b.unbind(-1), eps)
    return overlap / union


def giou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """Generalised IoU (...) in [-1, 1] of boxes (..., 4) (Rezatofighi et al., CVPR 2019, algorithm 1)."""
    sides_a, sides_b = a.unbind(-1), b.unbind(-1)
    overlap, union = _overlap_and_union(sides_a, sides_b, eps)
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = sides_a, sides_b
    width = (torch.maximum(ax1, bx1) - torch.minimum(ax0, bx0)).clamp(min=0)
    height = (torch.maximum(ay1, by1) - torch.minimum(ay0, by0)).clamp(min=0)
    enclosing = (width * height).clamp(min=eps)
    return overlap / union - (enclosing - union) / enclosing


def from_distances(centres: Tensor, distances: Tensor) -> Tensor:
    """Boxes (..., 4) from centres (..., 2) and distances (..., 4) to the left, top, right and bottom sides."""
    x, y = centres.unbind(-1)
    left, top, right, bottom = distances.unbind(-1)
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=-1)


def to_distances(centres: Tensor, boxes: Tensor) -> Tensor:
    """Distances (..., 4) from centres (..., 2) to the sides of boxes (..., 4). Inverse of `from_distances`."""
    x, y = centres.unbind(-1)
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=-1)


def clip(boxes: Tensor, height: Tensor | float, width: Tensor | float) -> Tensor:
    """Boxes (N, 4) clipped to an image of the given size."""
    limit = torch.stack([torch.as_tensor(v, dtype=boxes.dtype, device=boxes.device) for v in (width, height) * 2])
    return torch.minimum(boxes.clamp(min=0), limit)


def _overlap_and_union(a: tuple[Tensor, ...], b: tuple[Tensor, ...], eps: float) -> tuple[Tensor, Tensor]:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a, b
    width = (torch.minimum(ax1, bx1) - torch.maximum(ax0, bx0)).clamp(min=0)
    height = (torch.minimum(ay1, by1) - torch.maximum(ay0, by0)).clamp(min=0)
    overlap = width * height
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - overlap
    return overlap, union.clamp(min=eps)
