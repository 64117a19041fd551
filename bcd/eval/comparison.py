"""Several detectors side by side on one data set: their reports, and the images on which two of them differ most.

The JSON (`Comparison.to_json`, schema `bcd-comparison-1`; later versions only add keys):

    schema, data         as in a report
    models               in the given order: role, name, protocol (hash or null), detections, ap, best_threshold,
                         calibration (ece, worst, bias), errors (count and gain by type), cost, notes
    per_class            for each class: class, objects, and by role the six values of `ap`
    disagreement         first, second (roles), by kind ("first right", "second right", "both wrong", "largest gap") a
                         list of image_id, file_name, score, reasons, drawing (file name or null)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcd.data.records import Dataset
from bcd.detections.disagreement import Disagreement, View, rank_disagreements
from bcd.eval.drawing import draw_comparison, save_png
from bcd.eval.flatten import truth_of
from bcd.eval.report import Report

SCHEMA = "bcd-comparison-1"


@dataclass(frozen=True)
class Comparison:
    """Reports by role in the order in which they are shown; `ranked` compares the roles `first` and `second`."""

    reports: Mapping[str, Report]
    first: str
    second: str
    ranked: Mapping[str, Sequence[Disagreement]]

    def views(self) -> list[View]:
        """What each detector says at the score of its own best F1."""
        return [View.of(role, report.flat, score=report.score) for role, report in self.reports.items()]

    def to_json(self, drawings: Mapping[tuple[str, int], str] | None = None) -> dict[str, Any]:
        """Plain JSON values. `drawings`: file name by kind and image (position in the data set)."""
        plain = {role: report.to_json() for role, report in self.reports.items()}
        data = next(iter(plain.values()))["data"]
        models = []
        for role, one in plain.items():
            errors = {name: {k: row[k] for k in ("count", "gain")} for name, row in one["errors"]["types"].items()}
            models.append(
                {
                    "role": role,
                    "name": one["name"],
                    "protocol": one["protocol"]["hash"] if one["protocol"] else None,
                    **{key: one[key] for key in ("detections", "ap", "best_threshold", "cost", "notes")},
                    "calibration": {key: one["calibration"][key] for key in ("ece", "worst", "bias")},
                    "errors": errors,
                }
            )
        rows = zip(*(one["per_class"] for one in plain.values()), strict=True)
        per_class = [
            {
                "class": row[0]["class"],
                "objects": row[0]["objects"],
                **{
                    role: {key: one[key] for key in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
                    for role, one in zip(plain, row, strict=True)
                },
            }
            for row in rows
        ]
        ranked = {
            kind: [
                {
                    "image_id": one.image_id,
                    "file_name": one.file_name,
                    "score": one.score,
                    "reasons": list(one.reasons),
                    "drawing": (drawings or {}).get((kind, one.image)),
                }
                for one in found
            ]
            for kind, found in self.ranked.items()
        }
        return {
            "schema": SCHEMA,
            "data": data,
            "models": models,
            "per_class": per_class,
            "disagreement": {"first": self.first, "second": self.second, **ranked},
        }


def compare(dataset: Dataset, reports: Mapping[str, Report], *, first: str, second: str, top: int = 8) -> Comparison:
    """Reports on the same data side by side, with the `top` images of each kind of disagreement of two of them.

    Each detector is looked at from the score of its own best F1 on, at IoU .5. Raises `ValueError` for reports on
    other data than the given one.
    """
    for role, report in reports.items():
        if report.data["hash"] != dataset.content_hash or report.flat.images != len(dataset):
            raise ValueError(f"the report of {role} was made on other data")
    views = {role: View.of(role, reports[role].flat, score=reports[role].score) for role in (first, second)}
    return Comparison(
        reports, first, second, rank_disagreements(truth_of(dataset), views[first], views[second], top=top)
    )


def draw_disagreements(
    dataset: Dataset,
    comparison: Comparison,
    folder: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[tuple[str, int], str]:
    """Draw every ranked image with all detectors side by side into `folder`, as PNG.

    Returns the file names by kind and image: `KIND-NN-IMAGE.png`, numbered from the strongest case. Raises `DataError`
    for an image that cannot be read.
    """
    views = comparison.views()
    made: dict[tuple[str, int], str] = {}
    total, done = sum(len(found) for found in comparison.ranked.values()), 0
    for kind, found in comparison.ranked.items():
        told = kind.replace("first", comparison.first).replace("second", comparison.second)
        for n, one in enumerate(found, 1):
            notes = [f"{told}, number {n}: {one.file_name or one.image_id}", *one.reasons]
            name = re.sub(r"[^A-Za-z0-9]+", "-", f"{told}-{n:02d}-{one.image_id}") + ".png"
            save_png(draw_comparison(dataset, one.image, views, notes=notes), folder / name)
            made[kind, one.image] = name
            done += 1
            progress(done, total)
    return made
