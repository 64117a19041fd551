"""COCO average precision (IoU .50:.05:.95, 101 recall points) of detections on a data set, counted by `hotcoco`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray

from bcd.data.records import DataError, Dataset
from bcd.types import Detections

# Axes of the precision table: IoU thresholds T, recall points R, classes K, area ranges A, detection limits M.
_IOU_50, _IOU_75 = 0, 5
_AREAS = {"APs": 1, "APm": 2, "APl": 3}
MEASURES = ("AP", "AP50", "AP75", *_AREAS)


@dataclass(frozen=True)
class CocoTable:
    """Precision of COCO's protocol, -1 where undefined: (10 IoUs, 101 recalls, classes, sizes all/s/m/l)."""

    precision_TRKA: NDArray[np.float64]

    def average(self, classes: int | slice = slice(None)) -> dict[str, float | None]:
        """`MEASURES` in percent, of one class or as the mean over all; None where there are no such objects."""
        table = self.precision_TRKA[:, :, classes]
        every = table[..., 0]
        values = {"AP": every, "AP50": every[_IOU_50], "AP75": every[_IOU_75]}
        return {name: _percent(part) for name, part in values.items()} | {
            name: _percent(table[..., area]) for name, area in _AREAS.items()
        }

    def curves(self, classes: int | slice = slice(None)) -> dict[str, list[float] | None]:
        """Precision in [0, 1] at recalls 0, .01, ..., 1 by IoU: "0.50", "0.75" and "0.50:0.95" (the mean over all ten).

        Of one class or as the mean over all that have objects; None without objects. A curve's mean is the AP.
        """
        every = self.precision_TRKA[..., 0]
        picked = {"0.50": every[_IOU_50 : _IOU_50 + 1], "0.75": every[_IOU_75 : _IOU_75 + 1], "0.50:0.95": every}
        made: dict[str, list[float] | None] = {}
        for name, part_TRK in picked.items():
            chosen = part_TRK[..., classes].reshape(*part_TRK.shape[:2], -1)
            chosen = chosen[..., (chosen > -1).all((0, 1))]
            made[name] = [round(float(v), 4) for v in chosen.mean((0, 2))] if chosen.shape[-1] else None
        return made


def evaluate(dataset: Dataset, detections: list[Detections], *, max_detections: int = 100) -> dict[str, Any]:
    """AP of detections in original image pixels, one `Detections` for each record in order.

    Returns `AP`, `AP50`, `AP75`, `APs`, `APm`, `APl` in percent (None where there are no such objects), `per_class`
    (name -> AP or None), and the numbers of `images` and counted `objects`. Ignored objects count as COCO crowds: a
    detection on them is neither right nor wrong. `max_detections` best ones count for each image and class.
    Raises `DataError` for a data set without images, `ValueError` for detections that do not fit it.
    """
    return results_of(dataset, coco_table(dataset, detections, max_detections=max_detections))


def results_of(dataset: Dataset, table: CocoTable) -> dict[str, Any]:
    """What `evaluate` returns, from a table that is already there."""
    return {
        **table.average(),
        "per_class": {name: table.average(k)["AP"] for k, name in enumerate(dataset.class_names)},
        "images": len(dataset),
        "objects": int(sum((~record.ignore).sum() for record in dataset.records)),
    }


def coco_table(dataset: Dataset, detections: list[Detections], *, max_detections: int = 100) -> CocoTable:
    """COCO's precision table of detections; arguments and errors as in `evaluate`."""
    if not len(dataset):
        raise DataError("there is no image to evaluate on; check the validation split")
    truth = _truth(dataset)
    found = truth.load_res(_rows(dataset, detections))
    evaluation: Any = hotcoco.COCOeval(truth, found, "bbox")
    evaluation.params.max_dets = [max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    return CocoTable(np.asarray(evaluation.eval["precision"])[..., 0])


def _truth(dataset: Dataset) -> Any:
    """The data set as COCO annotations. Images are numbered by position and classes from 1."""
    images = [{"id": i, "width": r.width, "height": r.height} for i, r in enumerate(dataset.records)]
    categories = [{"id": k, "name": name} for k, name in enumerate(dataset.class_names, 1)]
    counts = [len(r.labels) for r in dataset.records]
    total = sum(counts)
    return hotcoco.COCO.from_arrays(
        images,
        categories,
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate([r.labels for r in dataset.records]) + 1,
        _xywh(np.concatenate([r.boxes for r in dataset.records])),
        ids=np.arange(1, total + 1),
        area=np.concatenate([r.areas for r in dataset.records]).astype(np.float64),
        iscrowd=np.concatenate([r.ignore for r in dataset.records]).astype(np.int64),
    )


def _rows(dataset: Dataset, detections: list[Detections]) -> NDArray[np.float64]:
    """Rows of (image, x, y, width, height, score, class)."""
    if len(detections) != len(dataset):
        raise ValueError(f"{len(detections)} lists of detections for {len(dataset)} images")
    parts = []
    for i, item in enumerate(detections):
        boxes = item.boxes_N4.detach().cpu().double().numpy()
        scores = item.scores_N.detach().cpu().double().numpy()
        labels = item.labels_N.detach().cpu().double().numpy()
        parts.append(np.column_stack([np.full(len(scores), float(i)), _xywh(boxes), scores, labels + 1]))
    rows = np.concatenate(parts)
    if not np.isfinite(rows).all():
        raise ValueError("detections hold a box or score that is not finite")
    if len(rows) and not (rows[:, 6].min() >= 1 and rows[:, 6].max() <= len(dataset.class_names)):
        raise ValueError(f"detections hold a class index outside the {len(dataset.class_names)} classes")
    return rows


def _xywh(boxes: NDArray[Any]) -> NDArray[np.float64]:
    boxes = boxes.astype(np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def _percent(precision: NDArray[np.float64]) -> float | None:
    """Mean of the defined entries (-1 marks undefined ones) in percent."""
    defined = precision[precision > -1]
    return float(defined.mean() * 100) if len(defined) else None
