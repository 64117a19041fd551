"""COCO AP against pycocotools, and at the edges where there is little or nothing to count."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bcd.data.records import DataError, Dataset
from bcd.eval import evaluate
from bcd.types import Detections
from tests.helpers.detections import NOTHING, dataset, detect, random_case, record

KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def oracle(data: Dataset, found: list[Detections], max_detections: int) -> dict[str, Any]:
    """The same numbers from pycocotools."""
    xywh = lambda b: [float(b[0]), float(b[1]), float(b[2]) - float(b[0]), float(b[3]) - float(b[1])]  # noqa: E731
    truth = COCO()
    annotations = [
        {"image_id": i, "category_id": int(c), "bbox": xywh(b), "iscrowd": int(g), "area": float(a)}
        for i, r in enumerate(data.records)
        for b, c, g, a in zip(r.boxes, r.labels, r.ignore, r.areas, strict=True)
    ]
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(data))],
        "annotations": [a | {"id": n} for n, a in enumerate(annotations, 1)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(data.class_names)],
    }
    rows = [
        {"image_id": i, "category_id": int(c), "bbox": xywh(b), "score": float(s)}
        for i, d in enumerate(found)
        for b, s, c in zip(d.boxes_N4, d.scores_N, d.labels_N, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(rows), "bbox")
        run.params.maxDets = [1, 10, max_detections]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, :, -1]

    def mean(part: np.ndarray) -> float | None:
        return float(part[part > -1].mean() * 100) if (part > -1).any() else None

    every = precision[:, :, :, 0]
    values = [every, every[0], every[5], *(precision[:, :, :, a] for a in (1, 2, 3))]
    per_class = {name: mean(every[:, :, k]) for k, name in enumerate(data.class_names)}
    return {**dict(zip(KEYS, map(mean, values), strict=True)), "per_class": per_class}


@pytest.mark.parametrize(
    ("case", "max_detections"),
    [
        ({"seed": 0, "images": 30, "per_image": 30}, 100),
        ({"seed": 1, "images": 30, "per_image": 30, "levels": 5}, 100),
        ({"seed": 2, "images": 6, "per_image": 900}, 100),
        ({"seed": 3, "images": 6, "per_image": 900, "levels": 3}, 100),
        ({"seed": 4, "images": 20, "per_image": 60}, 20),
        ({"seed": 5, "images": 1, "per_image": 40}, 100),
    ],
)
def test_the_numbers_are_those_of_pycocotools(case: dict[str, int], max_detections: int) -> None:
    data, found = random_case(**case)
    ours, theirs = evaluate(data, found, max_detections=max_detections), oracle(data, found, max_detections)
    for key in KEYS:
        assert ours[key] == pytest.approx(theirs[key], abs=1e-6), key
    assert ours["per_class"] == pytest.approx(theirs["per_class"], abs=1e-6)
    assert ours["AP"] is not None
    assert 0 < ours["AP"] < 100
    assert ours["images"] == case["images"]
    assert ours["objects"] == sum(int((~r.ignore).sum()) for r in data.records)


def test_perfect_detections_score_a_hundred() -> None:
    data = dataset([record([[10, 10, 20, 30], [50, 50, 200, 200]], [0, 2]), record([[5, 5, 60, 60]], [0])])
    found = [detect(r.boxes, np.ones(len(r.labels)), r.labels) for r in data.records]
    result = evaluate(data, found)
    assert [round(result[key], 6) for key in KEYS] == [100] * 6
    assert result["per_class"] == {"a": pytest.approx(100), "b": None, "c": pytest.approx(100)}


def test_no_detections_at_all_score_zero() -> None:
    data = dataset([record([[10, 10, 20, 30]], [0]), record([], [])])
    result = evaluate(data, [NOTHING, NOTHING])
    assert result["AP"] == result["AP50"] == result["APs"] == 0
    assert result["APm"] is None
    assert result["APl"] is None
    assert result["per_class"] == {"a": 0, "b": None, "c": None}
    assert (result["images"], result["objects"]) == (2, 1)


def test_without_objects_nothing_is_defined() -> None:
    data = dataset([record([], [])])
    for found in (NOTHING, detect([[1, 1, 9, 9]], [0.5], [1])):
        result = evaluate(data, [found])
        assert all(result[key] is None for key in KEYS)
        assert result["objects"] == 0


def test_detections_on_ignored_objects_cost_nothing() -> None:
    data = dataset([record([[10, 10, 60, 60], [100, 100, 200, 200]], [0, 0], [False, True])])
    on_crowd = detect([[100, 100, 150, 150], [120, 120, 180, 190], [10, 10, 60, 60]], [0.9, 0.8, 0.7], [0, 0, 0])
    assert evaluate(data, [on_crowd])["AP"] == pytest.approx(100)
    beside = detect([[300, 300, 350, 350], [10, 10, 60, 60]], [0.9, 0.7], [0, 0])
    assert evaluate(data, [beside])["AP"] == pytest.approx(50)


def test_the_order_of_images_does_not_matter() -> None:
    data, found = random_case(6, 12, 20)
    order = [5, 0, 7, 11, 2, 9, 1, 3, 10, 4, 8, 6]
    turned = evaluate(dataset([data.records[i] for i in order]), [found[i] for i in order])
    straight = evaluate(data, found)
    assert turned.pop("per_class") == pytest.approx(straight.pop("per_class"), abs=1e-9)
    assert turned == pytest.approx(straight, abs=1e-9)


def test_what_does_not_fit_is_refused() -> None:
    data = dataset([record([[10, 10, 20, 30]], [0])])
    with pytest.raises(DataError, match="no image to evaluate on"):
        evaluate(dataset([]), [])
    with pytest.raises(ValueError, match="2 lists of detections for 1 images"):
        evaluate(data, [NOTHING, NOTHING])
    with pytest.raises(ValueError, match="not finite"):
        evaluate(data, [detect([[0, 0, np.nan, 5]], [0.5], [0])])
    with pytest.raises(ValueError, match="outside the 3 classes"):
        evaluate(data, [detect([[0, 0, 5, 5]], [0.5], [3])])
