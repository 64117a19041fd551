"""Judge a detector on a data set: detect, scale boxes back to the original images, COCO AP, report and predictions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bcd.data import Dataset, eval_batches
from bcd.eval.coco import evaluate
from bcd.eval.predictions import save_predictions
from bcd.eval.report import Report, make_report
from bcd.methods.match import ClassMap
from bcd.models.detector import Detector
from bcd.models.postprocess import PostprocessOptions
from bcd.spec import DataSpec, EvaluationSpec
from bcd.types import DenseOutputs, Detections

# Raised whenever a change of this code can change AP.
PROTOCOL_VERSION = 2
REPORT_FILE, PREDICTIONS_FILE = "report.json", "predictions.npz"

Autocast = Callable[[], AbstractContextManager[Any]]
Progress = Callable[[int, int], None]


def options_of(spec: EvaluationSpec) -> PostprocessOptions:
    return PostprocessOptions(spec.score_threshold, spec.nms_candidates, spec.nms_iou, spec.max_detections)


def protocol_of(
    dataset: Dataset,
    data: DataSpec,
    spec: EvaluationSpec,
    *,
    ema: bool,
    precision: str,
    weights: str = "last",
    classes: ClassMap | None = None,
) -> dict[str, Any]:
    """All that two evaluations must share for their AP to be comparable, as plain values.

    Data (content hash), its classes, input size, thresholds, the version of this code, averaged weights or not, `best`
    or `last` weights, precision, and data classes that the detector does not know (they can only be missed).
    """
    size = data.image_size
    parts: dict[str, Any] = {
        "version": PROTOCOL_VERSION,
        "data": dataset.content_hash,
        "classes": list(dataset.class_names),
        "image_size": list(size) if isinstance(size, tuple) else size,
        "postprocess": spec.model_dump(mode="json", exclude={"every", "batch_size"}),
        "ema": ema,
        "weights": weights,
        "precision": precision,
    }
    if classes is not None and classes.unmapped:
        parts["unknown_classes"] = list(classes.unmapped)
    return parts


def hash_of(protocol: Mapping[str, Any]) -> str:
    """SHA-256 of a protocol."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()


def protocol_hash(
    dataset: Dataset,
    data: DataSpec,
    spec: EvaluationSpec,
    *,
    ema: bool,
    precision: str,
    weights: str = "last",
    classes: ClassMap | None = None,
) -> str:
    """Hash of all that two evaluations must share for their AP to be comparable, see `protocol_of`."""
    return hash_of(protocol_of(dataset, data, spec, ema=ema, precision=precision, weights=weights, classes=classes))


def detect(
    model: Detector,
    dataset: Dataset,
    data: DataSpec,
    spec: EvaluationSpec,
    *,
    device: torch.device,
    autocast: Autocast = nullcontext,
    progress: Progress = lambda done, total: None,
    classes: ClassMap | None = None,
) -> list[Detections]:
    """Detections on all images in the data set's order, in pixels of the original images, on the CPU.

    `classes` maps the data's classes to those of a detector with another list (`ClassMap.by_name(data, detector)`):
    its other classes are dropped before the suppression, as if it had never learnt them. Restores the training mode.
    Raises `DataError` when an image cannot be read.
    """
    training = model.training
    model.eval()
    found: list[Detections | None] = [None] * len(dataset)
    done = 0
    try:
        with _only_classes(model, classes, device):
            for batch in eval_batches(dataset, data, batch_size=spec.batch_size):
                images = model.normalize(batch.images_B3HW.to(device))
                with autocast():
                    detections = model.predict(images, batch.sizes_B2.to(device), options_of(spec))
                for index, one, scale_2 in zip(batch.indices, detections, batch.scales_B2, strict=True):
                    labels_N = one.labels_N.cpu()
                    if classes is not None and classes.student is not None:
                        labels_N = classes.student.cpu()[labels_N]
                    boxes_N4 = one.boxes_N4.float().cpu() / scale_2.repeat(2)
                    found[int(index)] = Detections(boxes_N4, one.scores_N.float().cpu(), labels_N)
                done += len(batch.indices)
                progress(done, len(dataset))
    finally:
        model.train(training)
    return [one for one in found if one is not None]


def evaluate_detector(
    model: Detector,
    dataset: Dataset,
    data: DataSpec,
    spec: EvaluationSpec,
    *,
    device: torch.device,
    autocast: Autocast,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """COCO AP of a model in percent, see `bcd.eval.coco.evaluate`. Restores the model's training mode."""
    found = detect(model, dataset, data, spec, device=device, autocast=autocast, progress=progress)
    return evaluate(dataset, found, max_detections=spec.max_detections)


@dataclass(frozen=True)
class FinalReport:
    """`results` is what `bcd.eval.coco.evaluate` returns; both files are complete when this exists."""

    results: dict[str, Any]
    report: Report
    protocol: str
    report_path: Path
    predictions_path: Path


def final_report(
    model: Detector,
    dataset: Dataset,
    data: DataSpec,
    spec: EvaluationSpec,
    *,
    folder: Path,
    device: torch.device,
    autocast: Autocast = nullcontext,
    ema: bool,
    precision: str,
    weights: str = "last",
    name: str = "student",
    cost: Mapping[str, Any] | None = None,
    classes: ClassMap | None = None,
    progress: Progress = lambda done, total: None,
) -> FinalReport:
    """Detect once, judge in every way, and write `report.json` and `predictions.npz` into `folder`.

    Arguments as in `detect`, `protocol_of` and `bcd.eval.make_report`. Raises `DataError` for data without images.
    """
    protocol = protocol_of(dataset, data, spec, ema=ema, precision=precision, weights=weights, classes=classes)
    found = detect(model, dataset, data, spec, device=device, autocast=autocast, progress=progress, classes=classes)
    key = hash_of(protocol)
    notes = []
    if classes is not None and classes.unmapped:
        notes.append(f"{name} does not know these classes of the data: {', '.join(classes.unmapped)}")
    report = make_report(
        dataset,
        found,
        name=name,
        max_detections=spec.max_detections,
        protocol={"hash": key, "parts": protocol},
        cost=cost,
        notes=notes,
    )
    predictions = save_predictions(folder / PREDICTIONS_FILE, dataset, found, protocol=key, detector=name)
    return FinalReport(dict(report.results), report, key, report.save(folder / REPORT_FILE), predictions)


@contextmanager
def _only_classes(model: Detector, classes: ClassMap | None, device: torch.device) -> Iterator[None]:
    """Let `forward` give the logits of the mapped classes alone."""
    if classes is None or classes.teacher is None:
        yield
        return
    index_M = classes.teacher.to(device)

    def keep(_model: object, _images: object, outputs: DenseOutputs) -> DenseOutputs:
        return replace(outputs, logits_BAC=outputs.logits_BAC[..., index_M])

    handle = model.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()
