"""Everything that is measured of one detector on one data set, as one value that becomes JSON.

The JSON (`Report.to_json`, schema `bcd-report-1`; later versions only add keys):

    schema, name         "bcd-report-1"; what the detector is called
    data                 hash, images, objects, ignored (objects that do not count), classes (names in order)
    protocol             hash and parts: all that two evaluations must share to be comparable; null if unknown
    detections           number of detections that were judged
    ap                   AP, AP50, AP75, APs, APm, APl in percent; null where there are no such objects
    per_class            for each class: class, objects, detections, the six values of `ap`, ece, best_threshold
    curves               recall (101 values); all and per_class (by name): precision in [0, 1] at these recalls by IoU
                         ("0.50", "0.75", "0.50:0.95"); null without objects
    best_threshold       score with the largest F1 at IoU .5 over all classes, with f1, precision, recall, right, wrong,
                         missed; null without a right detection
    confusion            iou, score, background (its index, the number of classes) and cells: [class of the object,
                         class of the detection, count] for each count that is not 0
    errors               iou (.5 and .1), AP50, types: for each of TIDE's types count, gain (points of AP50 if it alone
                         were corrected) and per_class (counts by class index, 0 left out); false_positives and
                         false_negatives: gain without any of them
    calibration          iou, ece, worst, bias, bins: low, high, count, score, precision
    cost                 parameters, FLOPs, latency (`bcd.cost`); null when not measured
    notes                sentences: what a reader should know
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bcd.data.records import Dataset
from bcd.detections.errors import BACKGROUND, FOREGROUND, TYPES, Errors, find_errors
from bcd.detections.flat import Flat, Matches, match
from bcd.detections.precision import RECALLS_R, Threshold, best_threshold
from bcd.eval.calibration import Calibration, calibrate
from bcd.eval.coco import CocoTable, coco_table, results_of
from bcd.eval.confusion import Confusion, confusion
from bcd.eval.flatten import flatten
from bcd.types import Detections

SCHEMA = "bcd-report-1"
_IOU = 0.5  # at which thresholds, calibration and confusions are judged
_FALLBACK_SCORE = 0.5  # where no threshold is best, because nothing is right


@dataclass(frozen=True)
class Report:
    """All figures of one detector on one data set; see the head of this file for what they mean."""

    name: str
    data: Mapping[str, Any]
    results: Mapping[str, Any]
    table: CocoTable
    flat: Flat
    matches: Matches
    confusion: Confusion
    errors: Errors
    calibration: Calibration
    threshold: Threshold | None
    per_class: Sequence[Mapping[str, Any]]
    protocol: Mapping[str, Any] | None = None
    cost: Mapping[str, Any] | None = None
    notes: Sequence[str] = field(default=())

    @property
    def score(self) -> float:
        """The score threshold at which the detector is looked at: that of the best F1."""
        return self.threshold.score if self.threshold else _FALLBACK_SCORE

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, schema `bcd-report-1`."""
        names = self.data["classes"]
        return {
            "schema": SCHEMA,
            "name": self.name,
            "data": dict(self.data),
            "protocol": None if self.protocol is None else dict(self.protocol),
            "detections": len(self.flat.score_D),
            "ap": {key: _round(value) for key, value in self.table.average().items()},
            "per_class": [dict(row) for row in self.per_class],
            "curves": {
                "recall": [round(float(r), 2) for r in RECALLS_R],
                "all": self.table.curves(),
                "per_class": {name: self.table.curves(k) for k, name in enumerate(names)},
            },
            "best_threshold": _threshold(self.threshold),
            "confusion": _confusion(self.confusion),
            "errors": _errors(self.errors),
            "calibration": _calibration(self.calibration),
            "cost": None if self.cost is None else dict(self.cost),
            "notes": list(self.notes),
        }

    def save(self, path: Path) -> Path:
        """Write the JSON; the file appears whole or not at all."""
        return write_json(path, self.to_json())

    def __str__(self) -> str:
        ap = ", ".join(f"{key} {_text(value)}" for key, value in self.table.average().items())
        kinds = self.errors.counts_CT.sum(0)
        errors = ", ".join(f"{name} {count}" for name, count in zip(TYPES, kinds.tolist(), strict=True))
        ece = _text(self.calibration.ece, 3)
        best = self.threshold
        f1 = f"F1 {best.f1:.3f} at score {best.score:.2f}" if best else "nothing right"
        return f"{self.name}: {ap}\nerrors: {errors}\n{f1}; calibration error {ece}"


def make_report(
    dataset: Dataset,
    detections: list[Detections],
    *,
    name: str = "detector",
    max_detections: int = 100,
    protocol: Mapping[str, Any] | None = None,
    cost: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Judge detections (original pixels, one `Detections` for each record in order) in every way that this room knows.

    The confusion matrix is taken at the score of the best F1 (.5 where nothing is right). 5,000 images with 100
    detections each take a few seconds. Raises as `bcd.eval.coco.evaluate`.
    """
    table = coco_table(dataset, detections, max_detections=max_detections)
    flat = flatten(dataset, detections, max_detections=max_detections)
    matches = match(flat, _IOU)
    counted_D = ~matches.ignored_D
    best = best_threshold(flat, matches)
    calibration = calibrate(
        flat.score_D[counted_D], matches.right_D[counted_D], flat.label_D[counted_D], flat.classes, iou=_IOU
    )
    detected_C = np.bincount(flat.label_D, minlength=flat.classes)
    per_class = [
        {
            "class": class_name,
            "objects": int(flat.objects_C[k]),
            "detections": int(detected_C[k]),
            **{key: _round(value) for key, value in table.average(k).items()},
            "ece": _round(calibration.ece_per_class[k], 6),
            "best_threshold": _threshold(best_threshold(flat, matches, k)),
        }
        for k, class_name in enumerate(dataset.class_names)
    ]
    return Report(
        name=name,
        data={
            "hash": dataset.content_hash,
            "images": len(dataset),
            "objects": int(flat.objects_C.sum()),
            "ignored": int(flat.ignore_G.sum()),
            "classes": list(dataset.class_names),
        },
        results=results_of(dataset, table),
        table=table,
        flat=flat,
        matches=matches,
        confusion=confusion(flat, score=best.score if best else _FALLBACK_SCORE, iou=_IOU),
        errors=find_errors(flat, matches),
        calibration=calibration,
        threshold=best,
        per_class=per_class,
        protocol=protocol,
        cost=cost,
        notes=notes,
    )


def write_json(path: Path, value: Mapping[str, Any]) -> Path:
    """Write JSON aside and rename it. Raises `ValueError` for values that JSON cannot hold, such as NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
    return path


def _threshold(best: Threshold | None) -> dict[str, Any] | None:
    if best is None:
        return None
    return {key: _round(value, 6) if isinstance(value, float) else value for key, value in asdict(best).items()}


def _confusion(found: Confusion) -> dict[str, Any]:
    rows, columns = np.nonzero(found.counts_KK)
    counts = found.counts_KK[rows, columns]
    return {
        "iou": found.iou,
        "score": _round(found.score, 6),
        "background": len(found.counts_KK) - 1,
        "cells": np.column_stack([rows, columns, counts]).tolist(),
    }


def _errors(found: Errors) -> dict[str, Any]:
    types = {}
    for t, name in enumerate(TYPES):
        counts_C = found.counts_CT[:, t]
        types[name] = {
            "count": int(counts_C.sum()),
            "gain": _round(found.gain_T[t]),
            "per_class": {str(k): int(counts_C[k]) for k in np.flatnonzero(counts_C)},
        }
    return {
        "iou": [FOREGROUND, BACKGROUND],
        "AP50": _round(found.ap50),
        "types": types,
        "false_positives": _round(found.false_positives),
        "false_negatives": _round(found.false_negatives),
    }


def _calibration(found: Calibration) -> dict[str, Any]:
    rows = [
        {key: _round(value, 6) if isinstance(value, float) else value for key, value in asdict(one).items()}
        for one in found.bins
    ]
    figures = {key: _round(getattr(found, key), 6) for key in ("ece", "worst", "bias")}
    return {"iou": found.iou, **figures, "bins": rows}


def _round(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(float(value), digits)


def _text(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
