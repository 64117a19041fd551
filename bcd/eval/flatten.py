"""A data set and detections on it as the flat arrays that everything is counted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bcd.data.records import Dataset
from bcd.detections.flat import Flat, Found, Truth, flat_of
from bcd.types import Detections


def truth_of(dataset: Dataset) -> Truth:
    """The objects of a data set."""
    objects = [len(record.labels) for record in dataset.records]
    return Truth(
        class_names=dataset.class_names,
        ids=tuple(record.id for record in dataset.records),
        file_names=tuple(record.file_name for record in dataset.records),
        image_G=np.repeat(np.arange(len(objects)), objects),
        box_G4=_stack([record.boxes for record in dataset.records], 4).astype(np.float64),
        label_G=_stack([record.labels for record in dataset.records]).astype(np.int64),
        ignore_G=_stack([record.ignore for record in dataset.records]).astype(np.bool_),
    )


def flatten(dataset: Dataset, detections: Sequence[Detections], *, max_detections: int = 100) -> Flat:
    """Flat arrays of a data set and one `Detections` (original pixels) for each record in order.

    Raises `ValueError` for detections that do not fit the data set (another number of images, and as `flat_of`).
    """
    if len(detections) != len(dataset):
        raise ValueError(f"{len(detections)} lists of detections for {len(dataset)} images")
    counts = [len(item.scores_N) for item in detections]
    found = Found(
        image_D=np.repeat(np.arange(len(counts)), counts),
        box_D4=_stack([item.boxes_N4.detach().cpu().double().numpy() for item in detections], 4),
        score_D=_stack([item.scores_N.detach().cpu().double().numpy() for item in detections]),
        label_D=_stack([item.labels_N.detach().cpu().numpy() for item in detections]).astype(np.int64),
    )
    return flat_of(truth_of(dataset), found, max_detections=max_detections)


def _stack(parts: Sequence[NDArray], columns: int | None = None) -> NDArray:  # type: ignore[type-arg]
    shape = (-1,) if columns is None else (-1, columns)
    return np.concatenate([np.asarray(part).reshape(shape) for part in parts]) if parts else np.zeros((0, *shape[1:]))
