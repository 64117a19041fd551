"""Detections of a whole data set as one file, so that they can be looked at, ranked and judged again without a model.

The file is a compressed .npz without pickled objects. Boxes are xyxy in pixels of the original images:
    image_id (B) int64, count (B) int32: detections of each image, in the data set's order
    box (D, 4) float32, score (D) float32, label (D) int32: detections of all images, best first within an image
    about: JSON text with format, class_names, data_hash, protocol (hash of how they were made), detector (its name)
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bcd.data.records import Dataset
from bcd.detections.files import FORMAT, PredictionsError, read_stored
from bcd.types import Detections


@dataclass(frozen=True)
class Predictions:
    """One `Detections` (original pixels) for each image, and what they belong to."""

    image_ids: tuple[int, ...]
    detections: list[Detections]
    class_names: tuple[str, ...]
    data_hash: str
    protocol: str
    detector: str = ""

    def of(self, dataset: Dataset) -> list[Detections]:
        """The detections in the data set's order. Raises `PredictionsError` unless they were made on this very data."""
        if self.class_names != dataset.class_names:
            raise PredictionsError(
                f"the predictions know the classes {_few(self.class_names)}, the data has {_few(dataset.class_names)}"
            )
        if self.data_hash != dataset.content_hash:
            raise PredictionsError(
                f"the predictions were made on other data ({self.data_hash[:12]}, not {dataset.content_hash[:12]}); "
                "evaluate the detector on this data instead"
            )
        if self.image_ids != tuple(record.id for record in dataset.records):
            raise PredictionsError("the predictions belong to other images than the data set holds")
        return self.detections

    def coco_results(self, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO's results form: image_id, category_id, bbox (x, y, width, height), score.

        `category_ids` are the ids of the classes in order; by default 1, 2, ...
        """
        ids = list(category_ids) if category_ids is not None else list(range(1, len(self.class_names) + 1))
        if len(ids) != len(self.class_names):
            raise ValueError(f"{len(ids)} category ids for {len(self.class_names)} classes")
        return [
            {
                "image_id": image_id,
                "category_id": ids[label],
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "score": score,
            }
            for image_id, item in zip(self.image_ids, self.detections, strict=True)
            for box, score, label in zip(
                item.boxes_N4.tolist(), item.scores_N.tolist(), item.labels_N.tolist(), strict=True
            )
        ]


def save_predictions(
    path: str | Path, dataset: Dataset, detections: Sequence[Detections], *, protocol: str = "", detector: str = ""
) -> Path:
    """Write detections on a data set; the file appears whole or not at all, and equal content gives equal bytes.

    Raises `ValueError` when there is not one `Detections` for each image.
    """
    if len(detections) != len(dataset):
        raise ValueError(f"{len(detections)} lists of detections for {len(dataset)} images")
    path = Path(path)
    about = {
        "format": FORMAT,
        "class_names": list(dataset.class_names),
        "data_hash": dataset.content_hash,
        "protocol": protocol,
        "detector": detector,
    }
    empty = torch.zeros(0)
    arrays: dict[str, Any] = {
        "image_id": np.asarray([record.id for record in dataset.records], np.int64),
        "count": np.asarray([len(item.scores_N) for item in detections], np.int32),
        "box": _joined([item.boxes_N4.reshape(-1, 4) for item in detections] or [empty.reshape(0, 4)], np.float32),
        "score": _joined([item.scores_N for item in detections] or [empty], np.float32),
        "label": _joined([item.labels_N for item in detections] or [empty], np.int32),
        "about": np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with aside.open("wb") as file:
        np.savez_compressed(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    return path


def load_predictions(path: str | Path) -> Predictions:
    """Read a file of predictions. Raises `PredictionsError` for one that is missing, damaged or not of this form."""
    path = Path(path)
    if not path.is_file():
        raise PredictionsError(f"no such file of predictions: {path}")
    stored = read_stored(path, str(path))
    counts = stored.count_B.tolist()
    arrays = (stored.box_D4.astype(np.float32), stored.score_D.astype(np.float32), stored.label_D)
    parts = [torch.split(torch.from_numpy(array), counts) for array in arrays]
    detections = [Detections(*three) for three in zip(*parts, strict=True)] if counts else []
    return Predictions(
        tuple(stored.image_id_B.tolist()),
        detections,
        stored.class_names,
        stored.data_hash,
        stored.protocol,
        stored.detector,
    )


def _joined(parts: Sequence[torch.Tensor], kind: Any) -> np.ndarray:
    return torch.cat([part.detach().cpu().double() for part in parts]).numpy().astype(kind)


def _few(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
