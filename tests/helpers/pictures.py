"""A small data set of drawn images and what detectors see on it, as the files that runs store."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bcd.data.records import Dataset, ImageRecord
from bcd.eval import save_predictions
from bcd.eval.gallery import write_gallery
from bcd.types import Detections

CLASSES = ("cells", "platelets")
COLOURS = ((200, 60, 60), (90, 60, 190))
SIDE = 160


class Drawn(Dataset):
    """Coloured boxes on a light ground, always the same."""

    def __init__(self, images: int = 12, seed: int = 0):
        random = np.random.default_rng(seed)
        records = []
        for i in range(images):
            n = 1 + i % 4
            corner = random.uniform(5, SIDE - 60, (n, 2))
            boxes = np.concatenate([corner, corner + random.uniform(20, 50, (n, 2))], 1).astype(np.float32)
            records.append(
                ImageRecord(
                    id=100 + i,
                    file_name=f"field-{i:02}.png",
                    width=SIDE,
                    height=SIDE,
                    boxes=boxes,
                    labels=(np.arange(n) % 2).astype(np.int64),
                    ignore=np.zeros(n, bool),
                    areas=(boxes[:, 2:] - boxes[:, :2]).prod(1),
                )
            )
        super().__init__(CLASSES, records, content_hash=f"drawn-{images}-{seed}")

    def load_image(self, i: int) -> NDArray[np.uint8]:
        image = np.full((SIDE, SIDE, 3), 235, np.uint8)
        record = self.records[i]
        for (x1, y1, x2, y2), label in zip(record.boxes.astype(int), record.labels, strict=True):
            image[y1:y2, x1:x2] = COLOURS[label]
        return image


def seen(data: Dataset, *, missed: set[tuple[int, int]] = frozenset(), made_up: set[int] = frozenset()) -> list[Any]:  # type: ignore[assignment]
    """Detections of every object but the `missed` (image, object), one more box on each image of `made_up`."""
    found = []
    for i, record in enumerate(data.records):
        keep = [g for g in range(len(record.labels)) if (i, g) not in missed]
        boxes = record.boxes[keep] + np.float32(1)
        scores = np.linspace(0.9, 0.6, len(keep), dtype=np.float32)
        labels = record.labels[keep]
        if i in made_up:
            boxes = np.concatenate([boxes, np.asarray([[2, 130, 30, 158]], np.float32)])
            scores, labels = np.append(scores, np.float32(0.8)), np.append(labels, 0)
        found.append(
            Detections(torch.from_numpy(boxes), torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(labels))
        )
    return found


def gallery_bytes(data: Dataset, **options: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_gallery(data, Path(folder) / "g.zip", **options).read_bytes()


def predictions_bytes(data: Dataset, detections: list[Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save_predictions(Path(folder) / "p.npz", data, detections, protocol="p", detector="d").read_bytes()
