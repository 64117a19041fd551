"""Judge a detector on a data set: detect, scale boxes back to the original images, COCO AP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from bcd.data import Dataset, eval_batches
from bcd.eval.coco import evaluate
from bcd.models.detector import Detector
from bcd.models.postprocess import PostprocessOptions
from bcd.spec import DataSpec, EvaluationSpec
from bcd.types import Detections

# Raised whenever a change of this code can change AP.
PROTOCOL_VERSION = 2


def options_of(spec: EvaluationSpec) -> PostprocessOptions:
    return PostprocessOptions(spec.score_threshold, spec.nms_candidates, spec.nms_iou, spec.max_detections)


def protocol_hash(dataset: Dataset, data: DataSpec, spec: EvaluationSpec, *, ema: bool, precision: str) -> str:
    """Hash of all that two evaluations must share for their AP to be comparable."""
    size = data.image_size
    parts = {
        "version": PROTOCOL_VERSION,
        "data": dataset.content_hash,
        "classes": list(dataset.class_names),
        "image_size": list(size) if isinstance(size, tuple) else size,
        "postprocess": spec.model_dump(mode="json", exclude={"every", "batch_size"}),
        "weights": "ema" if ema else "last",
        "precision": precision,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def evaluate_detector(
    model: Detector,
    dataset: Dataset,
    data: DataSpec,
    spec: EvaluationSpec,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """COCO AP of a model in percent, see `bcd.eval.coco.evaluate`. Restores the model's training mode."""
    training = model.training
    model.eval()
    found: list[Detections | None] = [None] * len(dataset)
    done = 0
    for batch in eval_batches(dataset, data, batch_size=spec.batch_size):
        images = model.normalize(batch.images_B3HW.to(device))
        with autocast():
            detections = model.predict(images, batch.sizes_B2.to(device), options_of(spec))
        for index, one, scale_2 in zip(batch.indices, detections, batch.scales_B2, strict=True):
            boxes = one.boxes_N4.cpu() / scale_2.repeat(2)
            found[int(index)] = Detections(boxes, one.scores_N.cpu(), one.labels_N.cpu())
        done += len(batch.indices)
        progress(done, len(dataset))
    model.train(training)
    return evaluate(dataset, [d for d in found if d is not None], max_detections=spec.max_detections)
