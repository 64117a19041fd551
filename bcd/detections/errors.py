"""What kind of mistakes a detector makes, after TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object
Detection Errors", ECCV 2020, sections 2.2 and 2.3): counts, and the AP that a detector without that mistake would win.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bcd.detections.flat import LEAST_IOU, Bools, Flat, Ints, Matches, match
from bcd.detections.precision import average_precision, mean_defined

FOREGROUND, BACKGROUND = 0.5, LEAST_IOU  # t_f and t_b of the paper
TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")
RIGHT, IGNORED = -1, -2


@dataclass(frozen=True)
class Errors:
    """`type_D` is each detection's index into `TYPES`, or `RIGHT` or `IGNORED`; `target_D` the object that a wrong
    class or place belongs to (-1 for none); `missed_G` objects that nothing comes near.

    `counts_CT` counts by class (of the detection; of the object for missed ones) and type; `gain_T` is the rise of AP50
    in percent points if that type alone were corrected, None where AP50 is not defined. `false_positives` and
    `false_negatives` are the paper's two special oracles: no wrong detection at all, no missed object at all.
    """

    type_D: Ints
    target_D: Ints
    missed_G: Bools
    counts_CT: Ints
    ap50: float | None
    gain_T: tuple[float | None, ...]
    false_positives: float | None
    false_negatives: float | None


def find_errors(flat: Flat, matches: Matches | None = None) -> Errors:
    """Give every wrong detection and every object without a match its type.

    A wrong detection is, in this order (that of the paper's toolbox, whose figures these are): *localisation*, when
    its largest IoU with an object of its class lies in [.1, .5); *classification*, when an object of another class
    overlaps it by .5 or more; *duplicate*, when an object of its class does, which a better detection has found;
    *background*, when no object overlaps it by .1; else *both*. An object is *missed* when no detection has found it
    and no localisation or classification error belongs to it.

    Correcting: wrong class or place become right for the best such detection of an object that nothing has found, and
    vanish otherwise; both, duplicate and background vanish; missed objects are no longer asked for.
    """
    matches = match(flat, FOREGROUND) if matches is None else matches
    if matches.iou != FOREGROUND:
        raise ValueError(f"error types are defined at IoU {FOREGROUND}, not {matches.iou}")
    type_D, target_D = _types(flat, matches)
    counted_G = ~flat.ignore_G
    found_G = matches.det_G >= 0
    near_G = np.zeros(len(found_G), np.bool_)
    near_G[target_D[target_D >= 0]] = True
    missed_G = counted_G & ~found_G & ~near_G

    counts_CT = np.zeros((flat.classes, len(TYPES)), np.int64)
    wrong = type_D >= 0
    np.add.at(counts_CT, (flat.label_D[wrong], type_D[wrong]), 1)
    counts_CT[:, TYPES.index("missed")] = np.bincount(flat.label_G[missed_G], minlength=flat.classes)

    right_D, used_D = matches.right_D, ~matches.ignored_D
    objects_C = flat.objects_C

    def ap(right: Bools, label: Ints, used: Bools, objects: Ints) -> float | None:
        # A class whose objects are all missed is no longer asked for, but still has its AP of 0 in the mean.
        values_C = average_precision(right[used], label[used], objects)
        values_C[(objects_C > 0) & (objects == 0)] = 0.0
        return mean_defined(values_C)

    base = ap(right_D, flat.label_D, used_D, objects_C)

    def gain(value: float | None) -> float | None:
        # Correcting can lower a mean by the 101 points' rounding alone: no loss, hence 0 (as in the toolbox).
        return None if value is None or base is None else max(0.0, value - base)

    best_D = _best_of_its_object(target_D, found_G)
    gains: list[float | None] = []
    for index, name in enumerate(TYPES):
        of_type_D = type_D == index
        if name == "missed":
            left_C = objects_C - counts_CT[:, index]
            gains.append(gain(ap(right_D, flat.label_D, used_D, left_C)))
            continue
        mended_D = of_type_D & best_D
        label_D = np.where(mended_D, flat.label_G[target_D] if len(flat.label_G) else -1, flat.label_D)
        gains.append(gain(ap(right_D | mended_D, label_D, used_D & ~(of_type_D & ~mended_D), objects_C)))
    found_C = np.bincount(flat.label_G[found_G], minlength=flat.classes)
    return Errors(
        type_D=type_D,
        target_D=target_D,
        missed_G=missed_G,
        counts_CT=counts_CT,
        ap50=base,
        gain_T=tuple(gains),
        false_positives=gain(ap(right_D, flat.label_D, right_D, objects_C)),
        false_negatives=gain(ap(right_D, flat.label_D, used_D, found_C)),
    )


def _types(flat: Flat, matches: Matches) -> tuple[Ints, Ints]:
    """Type of each detection and the object that it belongs to."""
    pairs = flat.pairs
    same_P = flat.label_D[pairs.det_P] == flat.label_G[pairs.truth_P]
    own_iou_D, own_D = _largest(pairs.det_P[same_P], pairs.truth_P[same_P], pairs.iou_P[same_P], len(flat.score_D))
    other = ~same_P
    iou_D, other_D = _largest(pairs.det_P[other], pairs.truth_P[other], pairs.iou_P[other], len(flat.score_D))
    index = TYPES.index
    # From the least to the most important: what comes later takes the place of what came before.
    type_D = np.full(len(flat.score_D), index("both"))
    type_D[np.maximum(own_iou_D, iou_D) < BACKGROUND] = index("background")
    type_D[own_iou_D >= FOREGROUND] = index("duplicate")
    type_D[iou_D >= FOREGROUND] = index("classification")
    type_D[(own_iou_D >= BACKGROUND) & (own_iou_D < FOREGROUND)] = index("localisation")
    type_D[matches.right_D] = RIGHT
    type_D[matches.ignored_D] = IGNORED
    target_D = np.full(len(type_D), -1)
    target_D = np.where(type_D == index("classification"), other_D, target_D)
    return type_D, np.where(type_D == index("localisation"), own_D, target_D)


def _largest(det_P: Ints, truth_P: Ints, iou_P: np.ndarray, detections: int) -> tuple[np.ndarray, Ints]:
    """Each detection's largest IoU (0 for none) and its object (-1). Pairs come with the largest first."""
    iou_D, truth_D = np.zeros(detections), np.full(detections, -1)
    known, first = np.unique(det_P, return_index=True)
    iou_D[known], truth_D[known] = iou_P[first], truth_P[first]
    return iou_D, truth_D


def _best_of_its_object(target_D: Ints, found_G: Bools) -> Bools:
    """Whether a detection is the best of those that belong to an object that nothing has found."""
    best_D = np.zeros(len(target_D), np.bool_)
    candidates = np.flatnonzero(target_D >= 0)
    candidates = candidates[~found_G[target_D[candidates]]]
    _, first = np.unique(target_D[candidates], return_index=True)
    best_D[candidates[first]] = True
    return best_D
