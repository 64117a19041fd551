"""Is this teacher any good on these images? Its AP, its classes, its normalisation, its image size.

The limits below are far from where sound teachers lie: a refusal has to be right. An untrained detector has an AP50 of
0, one whose classes are shuffled is right by chance only, and a sound one on data that it was made for lies tens of
points above both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou

from bcd.data import Dataset, eval_batches
from bcd.doctor.report import Finding
from bcd.engine.evaluate import options_of
from bcd.models.detector import IMAGENET_MEAN, IMAGENET_STD, Detector
from bcd.sample import Known, Subset, average_precision, detections, pick
from bcd.spec import DataSpec, EvaluationSpec
from bcd.types import Detections

FEWEST_OBJECTS = 10  # below that an AP is a matter of luck
FLOOR_AP50 = 2.0  # of a detector that has learnt nothing that these images need
WEAK_AP50 = 10.0
CLAIM_LOST, CLAIM_POINTS = 0.5, 2.0  # part of the claimed AP and points below it at which a teacher fails
CLAIM_LESS, CLAIM_LESS_POINTS = 0.8, 5.0  # the same for a warning
SAME_IOU = 0.5
SHUFFLED_Z = 3.0  # standard deviations by which a renaming must beat the names
ALTERNATIVE_IMAGES = 24

_BGR = (2, 1, 0)
Colours = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """(pixels - mean) / std, RGB, 0..255, or BGR when `swapped`."""

    name: str
    mean: Colours
    std: Colours
    swapped: bool = False


USUAL = (
    Normalisation("ImageNet, RGB", IMAGENET_MEAN, IMAGENET_STD),
    Normalisation("ImageNet, BGR (caffe)", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), swapped=True),
    Normalisation("0 to 1", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    Normalisation("-1 to 1", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    Normalisation("raw pixels", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)


@dataclass(frozen=True)
class Judged:
    """A detector on a few images. `halves_2MM` counts objects by (image's parity, class in the data, class of the best
    detection that overlaps it by IoU 0.5 or more), over the M known classes; `objects` are those of known classes."""

    images: int
    objects: int
    ap: float | None
    ap50: float | None
    halves_2MM: NDArray[np.int64]

    @property
    def localised(self) -> int:
        return int(self.halves_2MM.sum())


def judge(
    model: Detector,
    known: Known,
    dataset: Dataset,
    data: DataSpec,
    evaluation: EvaluationSpec,
    device: torch.device,
    normalisation: Normalisation | None = None,
) -> Judged:
    """Run a detector over all images of `dataset` and judge it on the classes that it knows.

    fp32, evaluation mode, no random number is drawn. `normalisation` takes the place of the detector's own.
    """
    options = options_of(evaluation)

    def detect(images: Tensor, sizes: Tensor) -> list[Detections]:
        images = images.to(device)
        if normalisation is None:
            pixels = model.normalize(images)
        else:
            images = images[:, list(_BGR)] if normalisation.swapped else images
            mean, std = (images.new_tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in
                         (normalisation.mean, normalisation.std))  # fmt: skip
            pixels = (images.float() - mean) / std
        return model.predict(pixels, sizes.to(device), options)

    with _evaluating(model):
        found = detections(detect, dataset, data, known, batch_size=min(8, evaluation.batch_size))
    results = average_precision(dataset, found, known, evaluation)
    objects = sum(int(np.isin(r.labels[~r.ignore], known.data).sum()) for r in dataset.records)
    return Judged(len(dataset), objects, results["AP"], results["AP50"], confusion(dataset, found, known))


def confusion(dataset: Dataset, found: list[Detections], known: Known) -> NDArray[np.int64]:
    """(2, M, M) counts of objects: parity of the image's place, class in the data, class of the best-scored detection
    on it."""
    place = {label: i for i, label in enumerate(known.data)}
    counts = np.zeros((2, len(known.data), len(known.data)), np.int64)
    for number, (record, one) in enumerate(zip(dataset.records, found, strict=True)):
        if not len(one.scores_N) or not len(record.labels):
            continue
        overlap_GN = box_iou(torch.from_numpy(record.boxes), one.boxes_N4)
        score_GN = torch.where(overlap_GN >= SAME_IOU, one.scores_N, -1.0)
        best_G, which_G = score_GN.max(dim=1)
        for label, ignore, score, which in zip(record.labels, record.ignore, best_G, which_G, strict=True):
            if not ignore and score > 0 and int(label) in place:
                counts[number % 2, place[int(label)], place[int(one.labels_N[which])]] += 1
    return counts


# --- findings --------------------------------------------------------------------------------------------------


def check_accuracy(judged: Judged, claim: dict[str, Any] | None, content_hash: str) -> Finding:
    """AP against what the file claims, and against a floor."""
    values: dict[str, Any] = {"images": judged.images, "objects": judged.objects, "AP": judged.ap, "AP50": judged.ap50}
    if judged.objects < FEWEST_OBJECTS or judged.ap is None or judged.ap50 is None:
        return Finding(
            "teacher.accuracy",
            "warn",
            f"the teacher cannot be judged: {judged.objects} objects of its classes on {judged.images} images",
            "give the validation split more labelled images",
            values,
        )
    seen = f"AP {judged.ap:.1f} (AP50 {judged.ap50:.1f}) on {judged.images} validation images"
    said, same = claimed(claim), claim is not None and claim.get("data") == content_hash
    if said is not None:
        values |= {"claimed_AP": said, "claimed_on_same_data": same}
    if judged.ap50 < FLOOR_AP50:
        return Finding(
            "teacher.accuracy",
            "fail",
            f"the teacher finds next to nothing: {seen}" + (f", its file claims {said:.1f}" if said else ""),
            "is it trained, on these classes, and at this image size? Look at its normalisation too",
            values,
        )
    if said is not None and judged.ap < CLAIM_LOST * said and said - judged.ap > CLAIM_POINTS:
        lost = f"the teacher reaches {seen}, its file claims {said:.1f}"
        if same:
            advice = "the file, its classes or its normalisation have changed since, or the weights are damaged"
            return Finding("teacher.accuracy", "fail", lost, advice, values)
        advice = "the claim is from other images: look at a few of its detections before you trust it here"
        return Finding("teacher.accuracy", "warn", lost, advice, values)
    if judged.ap50 < WEAK_AP50:
        advice = "a teacher this weak has little to teach: train it longer, or take a larger one"
        return Finding("teacher.accuracy", "warn", f"the teacher is weak: {seen}", advice, values)
    if said is not None and same and judged.ap < CLAIM_LESS * said and said - judged.ap > CLAIM_LESS_POINTS:
        lost = f"the teacher reaches {seen}, its file claims {said:.1f}"
        return Finding("teacher.accuracy", "warn", lost, "raise --images to see whether the sample is to blame", values)
    if said is None:
        return Finding("teacher.accuracy", "ok", f"{seen}; its file claims nothing to compare with", "", values)
    where = "" if same else " on other images"
    return Finding("teacher.accuracy", "ok", f"{seen}; its file claims {said:.1f}{where}", "", values)


def claimed(claim: dict[str, Any] | None) -> float | None:
    """The AP in percent that a detector's file claims."""
    value = claim.get("AP") if isinstance(claim, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def check_shuffled(judged: Judged, names: list[str]) -> Finding:
    """Whether another order of the classes would fit what the teacher says far better than the given one.

    Among objects that the teacher finds, the best one-to-one renaming of its classes is compared with their names. A
    weak teacher confuses classes too, and some renaming always fits the objects that it was chosen on: it is chosen on
    one half of the images and counted on the other, and must win by more than luck (McNemar's test).
    """
    whole = judged.halves_2MM.sum(0)
    looks_like = {names[i]: names[j] for i, j in _renaming(whole)}
    right = int(np.trace(whole))
    won = lost = 0
    for fitted, tested in (judged.halves_2MM, judged.halves_2MM[::-1]):
        moved = _renaming(fitted)
        won += sum(int(tested[i, j]) for i, j in moved)
        lost += sum(int(tested[i, i]) for i, _ in moved)
    renamed = right + won - lost
    values = {
        "localised": judged.localised,
        "right_class": right,
        "right_class_if_renamed": renamed,
        "looks_like": looks_like,
    }
    if judged.localised < FEWEST_OBJECTS:
        found = f"only {judged.localised} objects are found at all: their classes say nothing"
        return Finding("teacher.classes", "info", found, "", values)
    part = f"{right} of {judged.localised} found objects get the right class"
    beyond_luck = won >= 3 * lost and won - lost >= SHUFFLED_Z * np.sqrt(max(won + lost, 1))
    if beyond_luck and len(looks_like) > 1:
        pairs = [f"{name!r} is called {other!r}" for name, other in looks_like.items()]
        shown = ", ".join(pairs[:4]) + (", ..." if len(pairs) > 4 else "")
        found = f"the teacher's classes look shuffled: {part}, {renamed} would if renamed ({shown})"
        advice = "correct the order of the class names in its file, or rename them with teacher.classes"
        # A few rare classes that are taken for each other are not worth a refusal, nor is a hopeless classifier.
        grave = won - lost >= 0.15 * judged.localised and renamed >= 0.25 * judged.localised
        return Finding("teacher.classes", "fail" if grave else "warn", found, advice, values)
    return Finding("teacher.classes", "ok", part, "", values)


def _renaming(counts_MM: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The one-to-one renaming (class in the data, what the teacher calls it) that fits most objects, without the
    classes that keep their name."""
    rows, columns = linear_sum_assignment(counts_MM, maximize=True)
    moved = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(i, j) for i, j in moved if i != j and counts_MM[i, j] > counts_MM[i, i]]


def check_normalisation(model: Detector, judged: dict[str, Judged], pixels: tuple[float, float]) -> Finding:
    """The file's normalisation: is it a usual one, and would another do better?

    `judged` holds the same images with the file's own normalisation under "" and with others by name; `pixels` are
    mean and standard deviation of the normalised images.
    """
    mean, std = model.info.mean, model.info.std
    name = next((u.name for u in USUAL if not u.swapped and _close(u.mean, mean) and _close(u.std, std)), None)
    values: dict[str, Any] = {
        "mean": list(mean),
        "std": list(std),
        "usual": name,
        "normalised_mean": round(pixels[0], 4),
        "normalised_std": round(pixels[1], 4),
        "AP50": {key or "own": one.ap50 for key, one in judged.items()},
    }
    own = judged.get("")
    others = [(key, one.ap50 or 0.0) for key, one in judged.items() if key]
    highest = max((value for _, value in others), default=0.0)
    best = next((one for one in others if one[1] >= highest - 2), None)  # the most usual of those that do equally well
    if own is not None and best is not None and own.objects >= FEWEST_OBJECTS:
        mine = own.ap50 or 0.0
        better = (
            f"with the normalisation {best[0]!r} the teacher reaches AP50 {best[1]:.1f}, with its file's {mine:.1f}"
        )
        advice = "correct mean and std in the teacher's file (import it again with the values it was trained with)"
        if best[1] >= mine + 10 and best[1] >= 1.5 * mine:
            return Finding("teacher.normalisation", "fail", better, advice, values)
        if best[1] >= mine + 5 and best[1] >= 1.1 * mine:
            return Finding("teacher.normalisation", "warn", better, advice, values)
    if name is None and (abs(pixels[0]) > 3 or not 0.05 < pixels[1] < 10):
        found = f"unusual: pixels arrive with mean {pixels[0]:.3g} and standard deviation {pixels[1]:.3g}"
        return Finding(
            "teacher.normalisation", "warn", found, "compare mean and std with the teacher's training", values
        )
    if own is not None and own.objects >= FEWEST_OBJECTS and max(own.ap50 or 0.0, highest) < 1:
        found = "it finds next to nothing with any normalisation, so none can be told right"
        return Finding("teacher.normalisation", "info", found, "", values)
    tried = f"; none of {len(judged) - 1} others does better" if len(judged) > 1 else ""
    return Finding("teacher.normalisation", "ok", (name or "its own mean and std") + tried, "", values)


def alternatives(model: Detector) -> list[Normalisation]:
    """Normalisations that a file's author may have meant: the usual ones, and the file's with channels swapped."""
    mean, std = model.info.mean, model.info.std
    usual = [u for u in USUAL if u.swapped or not (_close(u.mean, mean) and _close(u.std, std))]
    return [*usual, Normalisation("the file's, BGR", mean, std, swapped=True)]


def judge_alternatives(
    model: Detector,
    known: Known,
    dataset: Dataset,
    data: DataSpec,
    evaluation: EvaluationSpec,
    device: torch.device,
    images: int = ALTERNATIVE_IMAGES,
) -> dict[str, Judged]:
    """The detector on the same few images, with its own normalisation ("") and with others by name."""
    some = pick(dataset, images, classes=set(known.data))
    tried: list[Normalisation | None] = [None, *alternatives(model)]
    return {"" if one is None else one.name: judge(model, known, some, data, evaluation, device, one) for one in tried}


def normalised_pixels(model: Detector, dataset: Dataset, data: DataSpec) -> tuple[float, float]:
    """Mean and standard deviation of a few images as the detector gets them."""
    batch = next(iter(eval_batches(Subset(dataset, range(min(4, len(dataset)))), data, batch_size=4)))
    device = next(model.parameters()).device
    values = model.normalize(batch.images_B3HW.to(device))
    return float(values.mean()), float(values.std())


def check_image_size(model: Detector, data: DataSpec) -> Finding:
    """The size of the images against the one that the teacher was trained with."""
    theirs, ours = _sides(model.info.extra.get("image_size")), _sides(data.image_size)
    values = {"teacher": theirs, "data": ours}
    if theirs is None or ours is None:
        return Finding("teacher.image_size", "info", "the teacher's file does not say its image size", "", values)
    factor = max(max(a / b, b / a) for a, b in zip(theirs, ours, strict=True))
    shown = f"trained at {theirs[0]}x{theirs[1]}, run at {ours[0]}x{ours[1]}"
    if factor > 1.5:
        advice = "objects have another size than it has learnt: bring data.image_size near the teacher's"
        return Finding("teacher.image_size", "warn", shown, advice, values)
    return Finding("teacher.image_size", "ok", shown, "", values)


def check_memorised(train: Judged, val: Judged) -> Finding:
    """Training AP far above validation AP: such a teacher repeats the labels and teaches little."""
    values = {"train_AP": train.ap, "val_AP": val.ap, "train_images": train.images}
    if train.ap is None or val.ap is None or min(train.objects, val.objects) < FEWEST_OBJECTS:
        return Finding("teacher.memorised", "info", "too few labelled objects to tell", "", values)
    if max(train.ap, val.ap) < 1:
        return Finding("teacher.memorised", "info", "it finds next to nothing on training images either", "", values)
    shown = f"AP {train.ap:.1f} on training images, {val.ap:.1f} on validation images"
    if train.ap - val.ap >= 20 and train.ap >= 1.4 * val.ap:
        advice = (
            "it has memorised the images that it will label: distil on others (data.unlabeled), augment them, "
            "or train the teacher with stronger augmentation"
        )
        return Finding("teacher.memorised", "warn", shown, advice, values)
    return Finding("teacher.memorised", "ok", shown, "", values)


def _sides(value: Any) -> list[int] | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return [value, value]
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value):
        return sorted(value)
    return None


def _close(a: Colours, b: Colours) -> bool:
    return bool(np.allclose(a, b, atol=0.6))


@contextmanager
def _evaluating(model: Detector) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
