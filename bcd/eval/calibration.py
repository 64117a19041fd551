"""Whether a score of .7 is right 70 times out of 100: detection ECE (Kueppers et al., "Multivariate Confidence
Calibration for Object Detection", CVPR Workshops 2020, equation 5, in its form that bins the score alone).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bcd.detections.flat import Bools, Floats, Ints

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Detections with a score in [low, high): how many, their mean score, and the share of right ones (None: none)."""

    low: float
    high: float
    count: int
    score: float | None
    precision: float | None


@dataclass(frozen=True)
class Calibration:
    """`ece`: mean distance of score and precision over the bins, weighted by their detections; `worst`: the largest
    distance of any bin. `bias`: mean score minus precision: above 0 is too sure of itself. None without detections."""

    ece: float | None
    worst: float | None
    bias: float | None
    iou: float
    bins: tuple[Bin, ...]
    ece_per_class: tuple[float | None, ...]


def calibrate(
    score: Floats, right: Bools, label: Ints, classes: int, *, iou: float = 0.5, bins: int = BINS
) -> Calibration:
    """Calibration of detections (flat arrays; ignored ones left out), where `right` was judged at `iou`.

    D-ECE = sum over bins of n_b / N |precision_b - mean score_b|, on equally wide bins; the last includes 1.
    Detections that the evaluation dropped (`evaluation.score_threshold`) cannot count.
    """
    place = np.minimum((score * bins).astype(np.int64), bins - 1).clip(min=0)
    count_b, score_b, right_b = _sums(place, score, right, bins)
    with np.errstate(invalid="ignore"):
        mean_b, precision_b = score_b / count_b, right_b / count_b
    # Bins of each class, in one pass: class 0's bins, class 1's bins, ...
    parts = (array.reshape(classes, bins) for array in _sums(label * bins + place, score, right, classes * bins))
    count_Cb, score_Cb, right_Cb = parts
    with np.errstate(invalid="ignore"):
        ece_C = np.abs(score_Cb - right_Cb).sum(1) / count_Cb.sum(1)
    rows = tuple(
        Bin(i / bins, (i + 1) / bins, int(n), float(mean_b[i]) if n else None, float(precision_b[i]) if n else None)
        for i, n in enumerate(count_b)
    )
    total = len(score)
    per_class = tuple(None if np.isnan(value) else float(value) for value in ece_C)
    if not total:
        return Calibration(None, None, None, iou, rows, per_class)
    gap_b = np.abs(score_b - right_b)
    return Calibration(
        ece=float(gap_b.sum() / total),
        worst=float(np.nanmax(np.abs(mean_b - precision_b))),
        bias=float((score_b - right_b).sum() / total),
        iou=iou,
        bins=rows,
        ece_per_class=per_class,
    )


def _sums(place: Ints, score: Floats, right: Bools, size: int) -> tuple[Floats, Floats, Floats]:
    """By place: detections, sum of scores, right ones."""
    count, total, hits = (
        np.bincount(place, weights=weight, minlength=size).astype(np.float64)
        for weight in (np.ones(len(place)), score, right.astype(np.float64))
    )
    return count, total, hits
