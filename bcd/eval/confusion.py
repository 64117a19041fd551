"""Which class is taken for which: the confusion matrix of a detector, with background as one more class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bcd.detections.flat import Flat, Ints, assign, match


@dataclass(frozen=True)
class Confusion:
    """`counts_KK`: rows are the objects' classes, columns the detections'; the last of both is the background.

    The diagonal holds right detections, the last row detections on no object, the last column objects that were not
    found, so that a row sums to the class's objects and a column to the class's detections.
    """

    counts_KK: Ints
    iou: float
    score: float


def confusion(flat: Flat, *, score: float, iou: float = 0.5) -> Confusion:
    """Count detections with at least `score` against objects at an IoU of at least `iou`, one to one.

    First as for AP: detections in order of score, objects of their own class. What is left over on both sides is then
    joined whatever the class. So no detection of another class takes an object from one that is right, and the
    diagonal agrees with AP's true positives. Detections on ignored objects take no part.
    """
    usable_D = flat.score_D >= score
    matches = match(flat, iou, usable_D=usable_D)
    truth_D, det_G = matches.truth_D.copy(), matches.det_G.copy()
    left_D = usable_D & matches.wrong_D
    pairs = flat.pairs
    assign(pairs.only((pairs.iou_P >= iou) & left_D[pairs.det_P]), truth_D, det_G)

    background = flat.classes
    joined = np.flatnonzero(truth_D >= 0)
    counts_KK = np.zeros((background + 1, background + 1), np.int64)
    np.add.at(counts_KK, (flat.label_G[truth_D[joined]], flat.label_D[joined]), 1)
    counts_KK[background, :-1] = np.bincount(flat.label_D[left_D & (truth_D < 0)], minlength=background)
    counts_KK[:-1, background] = np.bincount(flat.label_G[~flat.ignore_G & (det_G < 0)], minlength=background)
    return Confusion(counts_KK, iou, score)
