"""Small data sets and detections on them, made by hand or at random, for tests of evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bcd.data.records import Dataset, ImageRecord
from bcd.types import Detections


def record(boxes: Any, labels: Any, ignore: Any = None, areas: Any = None) -> ImageRecord:
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    box_areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return ImageRecord(
        id=int(boxes.sum()),  # evaluation must not lean on ids
        file_name="",
        width=400,
        height=400,
        boxes=boxes,
        labels=np.asarray(labels, np.int64),
        ignore=np.zeros(len(boxes), bool) if ignore is None else np.asarray(ignore, bool),
        areas=(box_areas if areas is None else np.asarray(areas)).astype(np.float32),
    )


def dataset(records: list[ImageRecord], classes: int = 3) -> Dataset:
    return Dataset(tuple("abcdef"[:classes]), records, content_hash="")


def detect(boxes: Any, scores: Any, labels: Any) -> Detections:
    boxes = torch.as_tensor(np.asarray(boxes, np.float32).reshape(-1, 4))
    return Detections(boxes, torch.as_tensor(np.asarray(scores, np.float32)), torch.as_tensor(labels).long())


NOTHING = detect([], [], [])


def random_case(
    seed: int, images: int, per_image: int, *, levels: int | None = None
) -> tuple[Dataset, list[Detections]]:
    """Objects of all sizes, some of them crowds, some with an area smaller than the box; noisy detections of them.

    With `levels` the scores take only so many values, so that there are many ties.
    """
    random = np.random.default_rng(seed)
    records, found = [], []
    for _ in range(images):
        n = int(random.integers(0, 12))
        corner = random.uniform(0, 250, (n, 2))
        boxes = np.concatenate([corner, corner + np.exp(random.uniform(np.log(6), np.log(150), (n, 2)))], 1)
        labels = random.integers(0, 3, n)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) * random.uniform(0.5, 1, n)
        records.append(record(boxes, labels, random.random(n) < 0.2, areas))
        m = int(random.integers(0, per_image + 1))
        source = random.integers(0, n, m) if n else np.zeros(0, int)
        guess = boxes[source] + random.normal(0, 5, (len(source), 4))
        wild = random.uniform(0, 200, (m // 4, 2))
        guess = np.concatenate([guess, np.concatenate([wild, wild + random.uniform(5, 100, (m // 4, 2))], 1)])
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
        classes = np.where(random.random(len(guess)) < 0.8, np.resize(labels[source], len(guess)) if n else 0, 1)
        scores = random.random(len(guess))
        if levels:
            scores = np.round(scores * levels) / levels
        order = np.argsort(-scores, kind="stable")
        found.append(detect(guess[order], scores[order], classes[order]))
    return dataset(records), found
