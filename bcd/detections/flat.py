"""Objects and detections as flat arrays, and which detection has found which object.

Everything that is counted here starts from these arrays, so that all figures of a report rest on one matching.
Shape legend: D detections (all images, best first), G objects (all images), P pairs of the two in the same image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST_IOU = 0.1  # pairs below it are of no use to any figure: TIDE's limit between background and the rest
_PAIRS_AT_ONCE = 2_000_000  # about 300 MB of intermediate values


@dataclass(frozen=True)
class Truth:
    """Images and their objects, image by image. Boxes are xyxy in pixels; `image_G` are positions in `ids`."""

    class_names: tuple[str, ...]
    ids: tuple[int, ...]
    file_names: tuple[str, ...]
    image_G: Ints
    box_G4: Floats
    label_G: Ints
    ignore_G: Bools

    @property
    def images(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Found:
    """Detections, image by image. Boxes are xyxy in pixels of the original images."""

    image_D: Ints
    box_D4: Floats
    score_D: Floats
    label_D: Ints


@dataclass(frozen=True)
class Flat:
    """Detections by falling score and objects in the data set's order.

    Equal scores are ordered by image, class and box: the order in which detections were given never counts.
    `image_*` are positions in the data set, `slot_D` is where a detection stands in its image's `Detections`.
    """

    image_D: Ints
    box_D4: Floats
    score_D: Floats
    label_D: Ints
    slot_D: Ints
    image_G: Ints
    box_G4: Floats
    label_G: Ints
    ignore_G: Bools
    classes: int
    images: int

    @cached_property
    def pairs(self) -> Pairs:
        """Pairs with objects that count, at IoU `LEAST_IOU` or more."""
        return _pairs(self, np.flatnonzero(~self.ignore_G), crowd=False)

    @cached_property
    def crowd_pairs(self) -> Pairs:
        """Pairs with ignored objects of the same class; the overlap is the share of the detection, as in COCO."""
        found = _pairs(self, np.flatnonzero(self.ignore_G), crowd=True)
        return found.only(self.label_D[found.det_P] == self.label_G[found.truth_P])

    @cached_property
    def objects_C(self) -> Ints:
        """Objects that count, by class (C)."""
        return np.bincount(self.label_G[~self.ignore_G], minlength=self.classes)


@dataclass(frozen=True)
class Pairs:
    """Overlapping pairs in the order in which they are matched: best detection first, then the largest overlap."""

    det_P: Ints
    truth_P: Ints
    iou_P: Floats

    def only(self, keep_P: Bools) -> Pairs:
        return Pairs(self.det_P[keep_P], self.truth_P[keep_P], self.iou_P[keep_P])


@dataclass(frozen=True)
class Matches:
    """`truth_D`: the object that each detection has found, -1 for none. `ignored_D`: neither right nor wrong, because
    the detection lies on an ignored object. `det_G`: the detection that has found an object, -1 for none."""

    truth_D: Ints
    ignored_D: Bools
    det_G: Ints
    iou: float

    @property
    def right_D(self) -> Bools:
        return self.truth_D >= 0

    @property
    def wrong_D(self) -> Bools:
        return (self.truth_D < 0) & ~self.ignored_D


def flat_of(truth: Truth, found: Found, *, max_detections: int = 100) -> Flat:
    """Both as one, detections by falling score. The `max_detections` best of each image and class count, as in COCO.

    Raises `ValueError` for detections that do not fit (class indices outside, values that are not finite).
    """
    image, box, score, label = found.image_D, found.box_D4, found.score_D, found.label_D
    classes = len(truth.class_names)
    if not (np.isfinite(box).all() and np.isfinite(score).all()):
        raise ValueError("detections hold a box or score that is not finite")
    if len(label) and not (label.min() >= 0 and label.max() < classes):
        raise ValueError(f"detections hold a class index outside the {classes} classes")
    order = np.lexsort((*box.T[::-1], label, image, -score))
    order = order[_rank(image[order] * classes + label[order]) < max_detections]
    return Flat(
        image_D=image[order],
        box_D4=box[order],
        score_D=score[order],
        label_D=label[order],
        slot_D=(np.arange(len(image)) - np.searchsorted(image, image))[order],
        image_G=truth.image_G,
        box_G4=truth.box_G4,
        label_G=truth.label_G,
        ignore_G=truth.ignore_G,
        classes=classes,
        images=truth.images,
    )


def match(flat: Flat, iou: float = 0.5, *, usable_D: Bools | None = None) -> Matches:
    """Which detection finds which object at an IoU threshold, by COCO's rule.

    Detections choose in the order of their scores; each takes the object of its class with the largest IoU that is
    still free. One that finds none is ignored when at least `iou` of it lies on an ignored object of its class.
    `usable_D` leaves detections out (those below a score threshold, say); they are neither matched nor ignored.
    """
    pairs = flat.pairs
    keep_P = (pairs.iou_P >= iou) & (flat.label_D[pairs.det_P] == flat.label_G[pairs.truth_P])
    if usable_D is not None:
        keep_P &= usable_D[pairs.det_P]
    truth_D, det_G = np.full(len(flat.score_D), -1), np.full(len(flat.label_G), -1)
    assign(pairs.only(keep_P), truth_D, det_G)
    ignored_D = np.zeros(len(truth_D), np.bool_)
    ignored_D[flat.crowd_pairs.det_P[flat.crowd_pairs.iou_P >= iou]] = True
    ignored_D &= truth_D < 0
    if usable_D is not None:
        ignored_D &= usable_D
    return Matches(truth_D, ignored_D, det_G, iou)


def assign(pairs: Pairs, truth_D: Ints, det_G: Ints) -> None:
    """Go through the pairs in their order and join those of which both are still free; writes into both arrays."""
    # Only pairs above an IoU threshold come here, about one for each right detection: a loop costs milliseconds.
    for det, truth in zip(pairs.det_P.tolist(), pairs.truth_P.tolist(), strict=True):
        if truth_D[det] < 0 and det_G[truth] < 0:
            truth_D[det], det_G[truth] = truth, det


def _pairs(flat: Flat, objects: Ints, *, crowd: bool) -> Pairs:
    """Pairs of detections with the given objects (indices, ordered by image), in matching order."""
    first = np.searchsorted(flat.image_G[objects], np.arange(flat.images + 1))
    partners_D = np.diff(first)[flat.image_D]
    ends = np.cumsum(partners_D)
    found: list[tuple[Ints, Ints, Floats]] = []
    start = 0
    while start < len(partners_D):
        before = ends[start] - partners_D[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS_AT_ONCE, side="right")))
        counts = partners_D[start:stop]
        det = np.repeat(np.arange(start, stop), counts)
        within = np.arange(len(det)) - np.repeat(np.cumsum(counts) - counts, counts)
        truth = objects[first[flat.image_D[det]] + within]
        overlap = _overlap(flat.box_D4[det], flat.box_G4[truth], crowd=crowd)
        keep = overlap >= LEAST_IOU
        found.append((det[keep], truth[keep], overlap[keep]))
        start = stop
    if not found:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    det, truth, overlap = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((truth, -overlap, det))
    return Pairs(det[order], truth[order], overlap[order])


def _overlap(box_P4: Floats, other_P4: Floats, *, crowd: bool) -> Floats:
    """IoU of each pair, or the share of `box_P4` that lies inside `other_P4`."""
    size_P2 = np.minimum(box_P4[:, 2:], other_P4[:, 2:]) - np.maximum(box_P4[:, :2], other_P4[:, :2])
    common_P = size_P2.clip(min=0).prod(1)
    area_P = (box_P4[:, 2:] - box_P4[:, :2]).clip(min=0).prod(1)
    whole_P = area_P if crowd else area_P + (other_P4[:, 2:] - other_P4[:, :2]).prod(1) - common_P
    overlap_P: Floats = np.divide(common_P, whole_P, out=np.zeros_like(common_P), where=whole_P > 0)
    return overlap_P


def _rank(group_D: Ints) -> Ints:
    """Place of each entry among those of its group, from 0, in the given order."""
    order = np.argsort(group_D, kind="stable")
    ordered = group_D[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)]
    place = np.arange(len(ordered))
    rank = np.empty(len(ordered), np.int64)
    rank[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return rank
