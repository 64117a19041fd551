"""Precision and recall at one IoU: average precision of hand-made rows, and the score threshold with the best F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bcd.detections.flat import Bools, Flat, Floats, Ints, Matches

RECALLS_R = np.linspace(0, 1, 101)  # COCO's recall points


def average_precision(right: Bools, label: Ints, objects_C: Ints) -> Floats:
    """AP in percent of each class, (C), NaN for a class without objects.

    `right` and `label` are detections of all classes, best first; ignored ones are left out by the caller. Precision
    is made monotonous and read at 101 recalls (COCO, as pycocotools does it).
    """
    ap_C = np.full(len(objects_C), np.nan)
    order = np.argsort(label, kind="stable")
    bounds = np.searchsorted(label[order], np.arange(len(objects_C) + 1))
    for c in np.flatnonzero(objects_C > 0):
        hits = np.cumsum(right[order[bounds[c] : bounds[c + 1]]])
        precision = hits / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(hits / objects_C[c], RECALLS_R, side="left")
        ap_C[c] = 100 * np.append(precision, 0.0)[at].mean()
    return ap_C


def mean_defined(ap_C: Floats) -> float | None:
    """Mean over the classes that have objects, None when there is none."""
    defined = ap_C[~np.isnan(ap_C)]
    return float(defined.mean()) if len(defined) else None


@dataclass(frozen=True)
class Threshold:
    """A score threshold (detections with at least this score are kept) and what it gives; fractions in [0, 1]."""

    score: float
    f1: float
    precision: float
    recall: float
    right: int
    wrong: int
    missed: int


def best_threshold(flat: Flat, matches: Matches, label: int | None = None) -> Threshold | None:
    """The threshold with the largest F1 = 2 P R / (P + R), over all classes together or for one of them.

    Of several with the same F1 the highest. None without objects or without any right detection.
    """
    counted_D = ~matches.ignored_D
    objects = int(flat.objects_C.sum())
    if label is not None:
        counted_D = counted_D & (flat.label_D == label)
        objects = int(flat.objects_C[label])
    score, right = flat.score_D[counted_D], matches.right_D[counted_D]
    if not objects or not right.any():
        return None
    hits = np.cumsum(right)
    kept = np.arange(1, len(hits) + 1)
    f1 = 2 * hits / (kept + objects)
    # A threshold keeps all detections of equal score, so only the last of them is a place to cut.
    f1[:-1][score[1:] == score[:-1]] = -1
    best = int(f1.argmax())
    return Threshold(
        score=float(score[best]),
        f1=float(f1[best]),
        precision=float(hits[best] / kept[best]),
        recall=float(hits[best] / objects),
        right=int(hits[best]),
        wrong=int(kept[best] - hits[best]),
        missed=int(objects - hits[best]),
    )
