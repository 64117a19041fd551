"""Detections of a whole data set as one file, so that they can be looked at, ranked and judged again without a model.

The file is a compressed .npz without pickled objects. Boxes are xyxy in pixels of the original images:
    image_id (B) int64, count (B) int32: detections of each image, in the data set's order
    box (D, 4) float32, score (D) float32, label (D) int32: detections of all images, best first within an image
    about: JSON text with format, class_names, data_hash, protocol (hash of how they were made), detector (its name)
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bcd.data.records import Dataset
from bcd.types import Detections

FORMAT = "bcd-predictions-1"
# A header may claim any size, an encryption or an unknown compression; memory is asked for before a value is read.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


class PredictionsError(ValueError):
    """A file of predictions that cannot be used, with the reason."""


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
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(bytes(file["about"]))
            image_id, count, box, score, label = (file[key] for key in ("image_id", "count", "box", "score", "label"))
        if about["format"] != FORMAT:
            raise PredictionsError(f"{path} has the form {about['format']!r}; this version reads {FORMAT!r}")
        names = tuple(str(name) for name in about["class_names"])
        data_hash, protocol, detector = str(about["data_hash"]), str(about["protocol"]), str(about["detector"])
    except _DAMAGE as error:
        if isinstance(error, PredictionsError):
            raise
        raise PredictionsError(f"{path} is damaged or no file of predictions: {error}") from None
    total = len(score)
    if not (
        count.shape == image_id.shape == (len(count),)
        and (count >= 0).all()
        and count.sum() == total
        and score.shape == label.shape == (total,)
        and box.shape == (total, 4)
    ):
        raise PredictionsError(f"{path} is damaged: its arrays do not fit each other")
    if not (np.isfinite(box).all() and np.isfinite(score).all()):
        raise PredictionsError(f"{path} holds a box or score that is not finite")
    if total and not (label.min() >= 0 and label.max() < len(names)):
        raise PredictionsError(f"{path} holds a class index outside its {len(names)} classes")
    parts = [torch.split(torch.from_numpy(array), count.tolist()) for array in (box, score, label.astype(np.int64))]
    detections = [Detections(*three) for three in zip(*parts, strict=True)] if len(count) else []
    return Predictions(tuple(image_id.tolist()), detections, names, data_hash, protocol, detector)


def _joined(parts: Sequence[torch.Tensor], kind: Any) -> np.ndarray:
    return torch.cat([part.detach().cpu().double() for part in parts]).numpy().astype(kind)


def _few(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
