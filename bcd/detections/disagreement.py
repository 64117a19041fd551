"""Where two detectors differ: images ranked by what one of them sees and the other does not, with the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bcd.detections.flat import Bools, Flat, Floats, Ints, Matches, Truth, match

KINDS = ("first right", "second right", "both wrong", "largest gap")
_SHARED_IOU = 0.5  # two wrong detections of one class that overlap by this are the same mistake
_NAMED = 4  # objects named in a reason


@dataclass(frozen=True)
class View:
    """What one detector says at its score threshold, at one IoU: the material of the ranking and of the drawings."""

    name: str
    flat: Flat
    matches: Matches
    score: float

    @classmethod
    def of(cls, name: str, flat: Flat, *, score: float, iou: float = 0.5) -> View:
        """Detections below `score` do not exist."""
        return cls(name, flat, match(flat, iou, usable_D=flat.score_D >= score), score)

    @property
    def wrong_D(self) -> Bools:
        return self.matches.wrong_D & (self.flat.score_D >= self.score)

    def f1_B(self) -> Floats:
        """F1 of each image, 2 TP / (2 TP + FP + FN); 1 where there is nothing to find and nothing was said."""
        flat, images = self.flat, self.flat.images
        right_B = np.bincount(flat.image_D[self.matches.right_D], minlength=images)
        wrong_B = np.bincount(flat.image_D[self.wrong_D], minlength=images)
        missed_B = np.bincount(flat.image_G[~flat.ignore_G & (self.matches.det_G < 0)], minlength=images)
        whole_B = 2 * right_B + wrong_B + missed_B
        return np.where(whole_B > 0, 2 * right_B / np.maximum(whole_B, 1), 1.0)


@dataclass(frozen=True)
class Disagreement:
    """One image of a ranking. `image` is its position in the data; `reasons` are sentences for people."""

    kind: str
    image: int
    image_id: int
    file_name: str
    score: float
    reasons: tuple[str, ...]


def rank_disagreements(truth: Truth, first: View, second: View, *, top: int = 20) -> dict[str, list[Disagreement]]:
    """The `top` images of each of `KINDS`, the worst first; images without any such case are left out.

    An image's score is
    - *first right*: the first's confidence in each object that it finds and the second does not, plus the second's
      confidence in each wrong detection that the first does not share (same class, IoU .5);
    - *second right*: the same the other way round;
    - *both wrong*: 1 for each object that neither finds, plus the mean confidence in each wrong detection they share;
    - *largest gap*: the difference of the two F1 (see `View.f1_B`).
    Equal scores are ordered by image id. Raises `ValueError` for views on different data.
    """
    if len(first.flat.label_G) != len(second.flat.label_G) or first.flat.images != truth.images:
        raise ValueError("the two sets of detections were made on different data")
    shared = _shared_mistakes(first, second)
    images = truth.images
    ranked = {}
    for kind, view, other, own in (
        ("first right", first, second, 0),
        ("second right", second, first, 1),
    ):
        alone_G = (view.matches.det_G >= 0) & (other.matches.det_G < 0)
        lone_D = other.wrong_D.copy()
        lone_D[shared[1 - own]] = False
        score_B = np.bincount(
            view.flat.image_G[alone_G], weights=view.flat.score_D[view.matches.det_G[alone_G]], minlength=images
        ) + np.bincount(other.flat.image_D[lone_D], weights=other.flat.score_D[lone_D], minlength=images)
        ranked[kind] = [
            _made(truth, kind, b, score_B[b], _one_right(truth, view, other, alone_G, lone_D, b))
            for b in _best(truth, score_B, top)
        ]
    neither_G = ~first.flat.ignore_G & (first.matches.det_G < 0) & (second.matches.det_G < 0)
    mean_score = (first.flat.score_D[shared[0]] + second.flat.score_D[shared[1]]) / 2
    shared_image = first.flat.image_D[shared[0]]
    score_B = np.bincount(first.flat.image_G[neither_G], minlength=images) + np.bincount(
        shared_image, weights=mean_score, minlength=images
    )
    ranked["both wrong"] = [
        _made(truth, "both wrong", b, score_B[b], _both_wrong(truth, first, neither_G, shared[0], b))
        for b in _best(truth, score_B, top)
    ]
    ours_B, theirs_B = first.f1_B(), second.f1_B()
    gap_B = np.abs(ours_B - theirs_B)
    ranked["largest gap"] = [
        _made(
            truth,
            "largest gap",
            b,
            gap_B[b],
            (f"F1 {ours_B[b]:.2f} for {first.name}, {theirs_B[b]:.2f} for {second.name}",),
        )
        for b in _best(truth, gap_B, top)
    ]
    return ranked


def rank_mistakes(truth: Truth, view: View, *, top: int = 20) -> list[Disagreement]:
    """The `top` images with the most mistakes of one detector, the worst first; images without any are left out.

    An image's score is the detector's confidence in each wrong detection, plus 1 for each object that it misses.
    """
    flat, wrong_D = view.flat, view.wrong_D
    missed_G = ~flat.ignore_G & (view.matches.det_G < 0)
    score_B = np.bincount(flat.image_D[wrong_D], weights=flat.score_D[wrong_D], minlength=truth.images) + np.bincount(
        flat.image_G[missed_G], minlength=truth.images
    )
    return [
        _made(truth, "mistakes", b, score_B[b], _mistakes(truth, view, wrong_D, missed_G, b))
        for b in _best(truth, score_B, top)
    ]


def _best(truth: Truth, score_B: Floats | Ints, top: int) -> list[int]:
    ids = np.asarray(truth.ids)
    # Sums of the same scores in another order differ in their last bits; rounded, they are equal.
    order = np.lexsort((ids, -score_B.round(9)))
    return [int(b) for b in order[:top] if score_B[b] > 1e-9]


def _made(truth: Truth, kind: str, image: int, score: float, reasons: Sequence[str]) -> Disagreement:
    return Disagreement(kind, image, truth.ids[image], truth.file_names[image], round(float(score), 6), tuple(reasons))


def _shared_mistakes(first: View, second: View) -> tuple[Ints, Ints]:
    """Indices of wrong detections of both that are the same mistake, joined one to one as detections with objects."""
    ours, theirs = np.flatnonzero(first.wrong_D), np.flatnonzero(second.wrong_D)
    theirs = theirs[np.argsort(second.flat.image_D[theirs], kind="stable")]
    mistakes = replace(
        first.flat,
        image_D=first.flat.image_D[ours],
        box_D4=first.flat.box_D4[ours],
        score_D=first.flat.score_D[ours],
        label_D=first.flat.label_D[ours],
        slot_D=first.flat.slot_D[ours],
        image_G=second.flat.image_D[theirs],
        box_G4=second.flat.box_D4[theirs],
        label_G=second.flat.label_D[theirs],
        ignore_G=np.zeros(len(theirs), np.bool_),
    )
    found = match(mistakes, _SHARED_IOU)
    return ours[found.right_D], theirs[found.truth_D[found.right_D]]


def _one_right(truth: Truth, view: View, other: View, alone_G: Bools, lone_D: Bools, image: int) -> list[str]:
    reasons = []
    objects = np.flatnonzero(alone_G & (view.flat.image_G == image))
    if len(objects):
        dets = view.matches.det_G[objects]
        told = _named(truth, view.flat.label_G[objects], view.flat.score_D[dets])
        reasons.append(f"{view.name} finds {_count(len(objects), 'object')} that {other.name} misses: {told}")
    mistakes = np.flatnonzero(lone_D & (other.flat.image_D == image))
    if len(mistakes):
        told = _named(truth, other.flat.label_D[mistakes], other.flat.score_D[mistakes])
        reasons.append(f"{other.name} has {_count(len(mistakes), 'false positive')} of its own: {told}")
    return reasons


def _both_wrong(truth: Truth, first: View, neither_G: Bools, shared_D: Ints, image: int) -> list[str]:
    reasons = []
    objects = np.flatnonzero(neither_G & (first.flat.image_G == image))
    if len(objects):
        told = _named(truth, first.flat.label_G[objects], None)
        reasons.append(f"neither finds {_count(len(objects), 'object')}: {told}")
    mistakes = shared_D[first.flat.image_D[shared_D] == image]
    if len(mistakes):
        told = _named(truth, first.flat.label_D[mistakes], first.flat.score_D[mistakes])
        reasons.append(f"both have {_count(len(mistakes), 'false positive')} in common: {told}")
    return reasons


def _mistakes(truth: Truth, view: View, wrong_D: Bools, missed_G: Bools, image: int) -> list[str]:
    reasons = []
    objects = np.flatnonzero(missed_G & (view.flat.image_G == image))
    if len(objects):
        reasons.append(f"misses {_count(len(objects), 'object')}: {_named(truth, view.flat.label_G[objects], None)}")
    wrong = np.flatnonzero(wrong_D & (view.flat.image_D == image))
    if len(wrong):
        told = _named(truth, view.flat.label_D[wrong], view.flat.score_D[wrong])
        reasons.append(f"has {_count(len(wrong), 'false positive')}: {told}")
    return reasons


def _named(truth: Truth, labels: Ints, scores: Floats | None) -> str:
    """`cat (0.91), dog (0.80) and 3 more`, the surest first."""
    order = np.arange(len(labels)) if scores is None else np.argsort(-scores, kind="stable")
    names = [
        truth.class_names[labels[i]] + ("" if scores is None else f" ({scores[i]:.2f})")
        for i in order[:_NAMED].tolist()
    ]
    return ", ".join(names) + (f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
