"""The whole report: its JSON form, that its parts agree with each other, and the edges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bcd.data.records import DataError, Dataset
from bcd.detections.errors import TYPES
from bcd.eval import evaluate, make_report
from bcd.eval.comparison import compare, draw_disagreements
from tests.helpers.detections import NOTHING, dataset, detect, random_case, record

KEYS = [
    "schema", "name", "data", "protocol", "detections", "ap", "per_class", "curves", "best_threshold", "confusion",
    "errors", "calibration", "cost", "notes",
]  # fmt: skip


class Pictures(Dataset):
    def load_image(self, i: int) -> np.ndarray:
        return np.zeros((self.records[i].height, self.records[i].width, 3), np.uint8)


def test_the_json_has_the_documented_form_and_its_parts_agree(tmp_path: Path) -> None:
    data, found = random_case(0, 20, 20)
    path = make_report(data, found, name="student", protocol={"hash": "h", "parts": {}}).save(tmp_path / "report.json")
    plain = json.loads(path.read_text())
    assert list(plain) == KEYS
    assert (plain["schema"], plain["name"], plain["protocol"]["hash"]) == ("bcd-report-1", "student", "h")
    results = evaluate(data, found)
    assert plain["ap"] == pytest.approx({key: results[key] for key in plain["ap"]}, abs=1e-4)
    assert {row["class"]: row["AP"] for row in plain["per_class"]} == pytest.approx(results["per_class"], abs=1e-4)
    assert plain["data"]["objects"] == results["objects"] == sum(row["objects"] for row in plain["per_class"])
    assert plain["data"]["ignored"] == sum(int(r.ignore.sum()) for r in data.records) > 0
    assert len(plain["curves"]["recall"]) == len(plain["curves"]["per_class"]["b"]["0.75"]) == 101
    assert plain["confusion"]["score"] == plain["best_threshold"]["score"]
    diagonal = sum(count for row, column, count in plain["confusion"]["cells"] if row == column)
    assert diagonal == plain["best_threshold"]["right"]
    for name in TYPES:
        row = plain["errors"]["types"][name]
        assert row["count"] == sum(row["per_class"].values())
    assert plain["errors"]["AP50"] == pytest.approx(plain["ap"]["AP50"], abs=1e-4)
    assert sum(one["count"] for one in plain["calibration"]["bins"]) <= plain["detections"]
    assert plain["detections"] == sum(row["detections"] for row in plain["per_class"])


@pytest.mark.parametrize("objects", [0, 1])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("said", [False, True])
def test_nothing_to_find_nothing_said_and_one_class(objects: int, classes: int, said: bool) -> None:
    data = dataset([record([[5, 5, 50, 50]] * objects, [0] * objects), record([], [])], classes)
    found = [detect([[5, 5, 50, 50]], [0.8], [0]) if said else NOTHING, NOTHING]
    report = make_report(data, found)
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain["ap"]["AP"] == (None if not objects else pytest.approx(100) if said else 0)
    assert (plain["best_threshold"] is None) == (not (objects and said))
    assert (plain["calibration"]["ece"] is None) == (not said)
    assert (plain["curves"]["all"]["0.50"] is None) == (not objects)
    assert plain["errors"]["types"]["background"]["count"] == int(said and not objects)
    assert str(report).startswith("detector: AP ")


def test_without_images_there_is_nothing_to_report() -> None:
    with pytest.raises(DataError, match="no image to evaluate on"):
        make_report(dataset([]), [])


def test_the_order_of_images_and_detections_changes_nothing() -> None:
    data, found = random_case(5, 12, 20)
    order = [5, 0, 7, 11, 2, 9, 1, 3, 10, 4, 8, 6]
    turned = [found[i] for i in order]
    turned = [type(d)(d.boxes_N4.flip(0), d.scores_N.flip(0), d.labels_N.flip(0)) for d in turned]
    one = make_report(data, found).to_json()
    other = make_report(dataset([data.records[i] for i in order]), turned).to_json()
    assert one == other


def test_more_detections_of_an_image_than_count_are_left_out_everywhere() -> None:
    data = dataset([record([[0, 0, 40, 40]], [0])], 1)
    found = detect([[100, 100, 140, 140]] * 3 + [[0, 0, 40, 40]], [0.9, 0.8, 0.7, 0.6], [0] * 4)
    plain = make_report(data, [found], max_detections=3).to_json()
    assert (plain["ap"]["AP"], plain["detections"]) == (0, 3)
    assert plain["errors"]["types"]["missed"]["count"] == 1


def test_several_detectors_side_by_side(tmp_path: Path) -> None:
    plain, teacher = random_case(0, 8, 10)
    records = [replace(r, id=i, file_name=f"folder/{i}.jpg") for i, r in enumerate(plain.records)]
    data = Pictures(plain.class_names, records, content_hash="d")
    student = random_case(3, 8, 10)[1]
    reports = {
        role: make_report(data, found, name=role, cost={"parameters": 7} if role == "student" else None)
        for role, found in (("teacher", teacher), ("student", student))
    }
    made = compare(data, reports, first="teacher", second="student", top=2)
    drawings = draw_disagreements(data, made, tmp_path / "images")
    whole = json.loads(json.dumps(made.to_json(drawings), allow_nan=False))
    assert list(whole) == ["schema", "data", "models", "per_class", "disagreement"]
    assert [model["role"] for model in whole["models"]] == ["teacher", "student"]
    assert [model["cost"] for model in whole["models"]] == [None, {"parameters": 7}]
    assert whole["models"][1]["ap"] == reports["student"].to_json()["ap"]
    assert whole["per_class"][1]["teacher"]["AP50"] == reports["teacher"].to_json()["per_class"][1]["AP50"]
    listed = [one["drawing"] for kind in list(whole["disagreement"])[2:] for one in whole["disagreement"][kind]]
    assert len(listed) > 4
    assert sorted(listed) == sorted(path.name for path in (tmp_path / "images").iterdir())
    assert any(name.startswith("teacher-right-01-") for name in listed)
    other = Dataset(data.class_names, data.records, content_hash="e")
    with pytest.raises(ValueError, match="teacher was made on other data"):
        compare(other, reports, first="teacher", second="student")
