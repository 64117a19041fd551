"""Arithmetic on xyxy boxes: areas, the IoU family, boxes from distances and from deltas. Pure functions, any leading
shape.

Columns are taken by `unbind`, not by indexing: its gradient is one stack instead of a zero-filled copy for each column.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The official code clamps unions and enclosing areas with this value.
EPS = 1e-6

Four = tuple[float, float, float, float]
ZEROS: Four = (0.0, 0.0, 0.0, 0.0)
ONES: Four = (1.0, 1.0, 1.0, 1.0)


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


def diou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """Distance IoU (...) in [-1, 1] of boxes (..., 4) (Zheng et al., AAAI 2020, equation 7): IoU minus the squared
    distance of the centres over the squared diagonal of the enclosing box."""
    sides_a, sides_b = a.unbind(-1), b.unbind(-1)
    overlap, union = _overlap_and_union(sides_a, sides_b, eps)
    return overlap / union - _centre_penalty(sides_a, sides_b, eps)


def ciou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """Complete IoU (...) of boxes (..., 4) (Zheng et al., AAAI 2020, equations 8 to 11): DIoU minus alpha times v, the
    squared difference of the aspect angles. alpha carries no gradient."""
    sides_a, sides_b = a.unbind(-1), b.unbind(-1)
    overlap, union = _overlap_and_union(sides_a, sides_b, eps)
    value = overlap / union
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = sides_a, sides_b
    angle_a, angle_b = (torch.atan(w / h.clamp(min=eps)) for w, h in ((ax1 - ax0, ay1 - ay0), (bx1 - bx0, by1 - by0)))
    v = (4 / math.pi**2) * (angle_a - angle_b).square()
    alpha = (v / (1 - value + v + eps)).detach()
    return value - _centre_penalty(sides_a, sides_b, eps) - alpha * v


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


def from_deltas(
    priors: Tensor, deltas: Tensor, means: Four = ZEROS, stds: Four = ONES, max_ratio: float = 1000 / 16
) -> Tensor:
    """Boxes (..., 4) from priors (..., 4) and deltas (..., 4) (R-CNN, Girshick et al., CVPR 2014, appendix C).

    A delta is (dx, dy, dw, dh): the centre's shift in units of the prior's sides, and the logarithm of the ratio of
    the sides; `deltas * stds + means` is that number. No side becomes more than `max_ratio` times longer or shorter
    than its prior's, so that no delta overflows.
    """
    limit = math.log(max_ratio)
    dx, dy, dw, dh = (d * s + m for d, s, m in zip(deltas.unbind(-1), stds, means, strict=True))
    x0, y0, x1, y1 = priors.unbind(-1)
    width, height = x1 - x0, y1 - y0
    x, y = (x0 + x1) * 0.5 + width * dx, (y0 + y1) * 0.5 + height * dy
    half_w, half_h = (side * d.clamp(-limit, limit).exp() * 0.5 for side, d in ((width, dw), (height, dh)))
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=-1)


def to_deltas(priors: Tensor, boxes: Tensor, means: Four = ZEROS, stds: Four = ONES, eps: float = EPS) -> Tensor:
    """Deltas (..., 4) from priors (..., 4) to boxes (..., 4), whose sides count as at least `eps`. Inverse of
    `from_deltas`."""
    x0, y0, x1, y1 = priors.unbind(-1)
    bx0, by0, bx1, by1 = boxes.unbind(-1)
    width, height = x1 - x0, y1 - y0
    raw = (
        ((bx0 + bx1) - (x0 + x1)) * 0.5 / width,
        ((by0 + by1) - (y0 + y1)) * 0.5 / height,
        ((bx1 - bx0).clamp(min=eps) / width).log(),
        ((by1 - by0).clamp(min=eps) / height).log(),
    )
    return torch.stack([(d - m) / s for d, m, s in zip(raw, means, stds, strict=True)], dim=-1)


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


def _centre_penalty(a: tuple[Tensor, ...], b: tuple[Tensor, ...], eps: float) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the enclosing box."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a, b
    width = torch.maximum(ax1, bx1) - torch.minimum(ax0, bx0)
    height = torch.maximum(ay1, by1) - torch.minimum(ay0, by0)
    diagonal = (width.square() + height.square()).clamp(min=eps)
    distance = ((ax0 + ax1) - (bx0 + bx1)).square() + ((ay0 + ay1) - (by0 + by1)).square()
    return distance / 4 / diagonal
