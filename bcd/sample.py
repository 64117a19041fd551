"""A few images of a data set, and how well a detector does on them in the data set's own classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bcd.data import DataError, Dataset, ImageRecord, eval_batches
from bcd.data.transforms import keep_ratio_size
from bcd.eval.coco import evaluate
from bcd.methods.match import ClassMap
from bcd.spec import DataSpec, DigitsData, EvaluationSpec
from bcd.types import Detections

# uint8 images (B, 3, H, W) and their content sizes (B, 2) to detections in pixels of the input.
Detect = Callable[[Tensor, Tensor], list[Detections]]


class Subset(Dataset):
    """Some images of a data set, in the order given."""

    def __init__(self, whole: Dataset, indices: Sequence[int]):
        super().__init__(
            whole.class_names,
            [whole.records[i] for i in indices],
            content_hash=f"{whole.content_hash}[{','.join(map(str, indices))}]",
        )
        self.whole, self.indices = whole, tuple(indices)

    def load_image(self, i: int) -> NDArray[np.uint8]:
        return self.whole.load_image(self.indices[i])


def pick(dataset: Dataset, images: int, *, classes: set[int] | None = None) -> Subset:
    """At most `images` images spread evenly over the data set, always the same ones.

    With `classes`, images that show one of them (and is not ignored) are taken where there are enough to choose from.
    """
    every = list(range(len(dataset)))
    if len(every) > images and classes is not None:
        with_objects = [i for i in every if classes & set(dataset.records[i].labels[~dataset.records[i].ignore])]
        every = with_objects if len(with_objects) >= images else every
    if len(every) <= images:
        return Subset(dataset, every)
    places = (np.arange(images) + 0.5) * len(every) / images
    return Subset(dataset, [every[int(place)] for place in places])


def input_pixels(dataset: Dataset, data: DataSpec) -> int:
    """Pixels of the largest image as it enters a model, without padding."""
    sizes = [
        (r.height, r.width) if isinstance(data, DigitsData) else keep_ratio_size(r.height, r.width, data.image_size)
        for r in dataset.records
    ]
    return max((height * width for height, width in sizes), default=0)


@dataclass(frozen=True)
class Known:
    """Which of the data's classes a model knows: positions (M,) in the data's classes and in the model's."""

    data: tuple[int, ...]
    model: tuple[int, ...]

    @classmethod
    def of(cls, classes: ClassMap, data: int, model: int) -> Known:
        """From a class map and both numbers of classes."""
        ours = range(data) if classes.student is None else classes.student.tolist()
        theirs = range(model) if classes.teacher is None else classes.teacher.tolist()
        return cls(tuple(ours), tuple(theirs))

    def in_data(self, found: Detections) -> Detections:
        """Detections of the model in the data's class indices; those of other classes are left out."""
        table = torch.full((max(self.model) + 1,), -1)
        table[list(self.model)] = torch.tensor(self.data)
        inside = found.labels_N < len(table)
        labels_N = torch.where(inside, table[found.labels_N.clamp(max=len(table) - 1)], -1)
        keep = labels_N >= 0
        return Detections(found.boxes_N4[keep], found.scores_N[keep], labels_N[keep])


def detections(detect: Detect, dataset: Dataset, data: DataSpec, known: Known, *, batch_size: int) -> list[Detections]:
    """Detections on every image in order: in pixels of the original image and in the data's classes, on the CPU."""
    found: list[Detections | None] = [None] * len(dataset)
    for batch in eval_batches(dataset, data, batch_size=batch_size):
        with torch.inference_mode():
            some = detect(batch.images_B3HW, batch.sizes_B2)
        for index, one, scale_2 in zip(batch.indices, some, batch.scales_B2, strict=True):
            on_cpu = Detections(one.boxes_N4.cpu().float(), one.scores_N.cpu().float(), one.labels_N.cpu())
            mapped = known.in_data(on_cpu)
            found[int(index)] = Detections(mapped.boxes_N4 / scale_2.repeat(2), mapped.scores_N, mapped.labels_N)
    return [one for one in found if one is not None]


def average_precision(
    dataset: Dataset, found: list[Detections], known: Known, evaluation: EvaluationSpec
) -> dict[str, Any]:
    """`bcd.eval.coco.evaluate`, over the known classes alone.

    Raises `DataError` for a data set without images.
    """
    if not len(dataset):
        raise DataError("there is no image to judge a detector on; check the validation split")
    judged = dataset
    if len(known.data) < len(dataset.class_names):
        judged = Subset(dataset, range(len(dataset)))
        judged.records = [_only(record, known.data) for record in dataset.records]
    return evaluate(judged, found, max_detections=evaluation.max_detections)


def _only(record: ImageRecord, classes: Sequence[int]) -> ImageRecord:
    keep = np.isin(record.labels, classes)
    parts = {name: getattr(record, name)[keep] for name in ("boxes", "labels", "ignore", "areas")}
    return replace(record, **parts)
