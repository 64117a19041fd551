"""`bcd evaluate` and `bcd report`: tables, JSON, files, and what is said when something does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import bcd
from bcd.models.files import save_detector
from service.cli import evaluate as commands
from service.cli import main, render_report
from tests.helpers.runs import TINY, tiny_spec
from tests.helpers.tiny_sets import CLASSES, write_tiny_coco
from tests.unit.cli.helpers import text_of, words


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, its spec, and three detectors: `big` knows two classes more."""
    root = tmp_path_factory.mktemp("evaluate")
    values = {"data": write_tiny_coco(root / "coco", n_val=4), "evaluation": {"score_threshold": 0.0}}
    (root / "data.yaml").write_text(yaml.safe_dump(values))
    for seed, (name, names) in enumerate({"big": ("sun", *CLASSES, "moon"), "one": CLASSES, "two": CLASSES}.items()):
        torch.manual_seed(seed)
        model = bcd.build_detector(**tiny_spec().student.model_dump(), class_names=names)
        torch.nn.init.normal_(model.head.cls.weight, std=0.5)
        save_detector(model, root / f"{name}.safetensors")
    return root


def call(*args: Any) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return int(end.value.code or 0)


def test_a_detector_with_more_classes_is_judged_on_those_of_the_data(place: Path, capsys, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("evaluate", place / "big.safetensors", "--data", place / "data.yaml", "--out", out) == 0
    rows = words(capsys.readouterr().out)
    assert rows[0] == ["AP", "AP50", "AP75", "small", "medium", "large"]
    assert {row[0] for row in rows} & {"sun", "moon"} == set()
    assert {row[0] for row in rows} & set(CLASSES)
    assert any(row[0] == "localisation" for row in rows)
    assert sorted(path.name for path in out.iterdir()) == ["predictions.npz", "report.json"]


def test_json_is_the_report_and_stored_predictions_give_it_again(place: Path, capsys, tmp_path: Path) -> None:
    assert call("evaluate", place / "one.safetensors", "--data", place / "data.yaml", "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["schema"], plain["name"], plain["data"]["images"]) == ("bcd-report-1", "one", 4)
    call("evaluate", place / "one.safetensors", "--data", place / "data.yaml", "--out", tmp_path)
    capsys.readouterr()
    assert call("evaluate", tmp_path / "predictions.npz", "--data", place / "data.yaml", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    for key in ("ap", "per_class", "errors", "confusion", "curves", "calibration"):
        assert again[key] == plain[key]


def test_teacher_baseline_and_student_side_by_side(place: Path, capsys, tmp_path: Path) -> None:
    roles = ["--teacher", place / "big.safetensors", "--student", place / "one.safetensors"]
    more = ["--baseline", place / "two.safetensors", "--images", 1]
    assert call("report", *roles, *more, "--data", place / "data.yaml", "--out", tmp_path) == 0
    rows = words(capsys.readouterr().out)
    assert [row[0] for row in rows[1:4]] == ["teacher", "baseline", "student"]
    assert rows[4][:3] == ["student", "-", "teacher"]
    assert rows[5][:3] == ["student", "-", "baseline"]
    assert any(row[:2] == ["parameters,", "M"] for row in rows)
    for role in ("teacher", "baseline", "student"):
        assert sorted(path.name for path in (tmp_path / role).iterdir()) == ["predictions.npz", "report.json"]
        report = json.loads((tmp_path / role / "report.json").read_text())
        assert report["cost"]["parameters"] > 1000
    whole = json.loads((tmp_path / "comparison.json").read_text())
    drawings = [one["drawing"] for found in whole["disagreement"].values() if isinstance(found, list) for one in found]
    named = [name for name in drawings if name]
    assert named
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in named)
    assert whole["models"][0]["cost"]["flops"] > 0


def test_a_comparison_of_stored_predictions_needs_no_detector(place: Path, capsys, tmp_path: Path) -> None:
    for name in ("one", "two"):
        call("evaluate", place / f"{name}.safetensors", "--data", place / "data.yaml", "--out", tmp_path / name)
    capsys.readouterr()
    files = ["--teacher", tmp_path / "one/predictions.npz", "--student", tmp_path / "two/predictions.npz"]
    assert call("report", *files, "--data", place / "data.yaml", "--out", tmp_path / "r", "--images", 0, "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["schema"] == "bcd-comparison-1"
    assert [model["cost"] for model in whole["models"]] == [None, None]
    assert not (tmp_path / "r" / "images").exists()


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        ("missing.safetensors", "no such detector file"),
        ("missing.npz", "no such file of predictions"),
        ("other.safetensors", "no name in common"),
        ("data.yaml", "safetensors file"),
    ],
)
def test_what_cannot_be_judged_is_told_in_a_line(place: Path, capsys, model: str, fault: str) -> None:
    other = bcd.build_detector(**tiny_spec().student.model_dump(), class_names=["cat"])
    save_detector(other, place / "other.safetensors")
    assert call("evaluate", place / model, "--data", place / "data.yaml") == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert fault in told


def test_a_whole_job_spec_serves_too_and_names_can_be_mapped(place: Path, capsys, tmp_path: Path) -> None:
    other = bcd.build_detector(**tiny_spec().student.model_dump(), class_names=["rot", "green", "blue"])
    path = save_detector(other, tmp_path / "german.safetensors")
    values = yaml.safe_load((place / "data.yaml").read_text())
    values |= {"student": TINY["student"], "methods": [{"type": "bckd"}]}
    values["teacher"] = {"path": "german.safetensors", "classes": {"red": "rot"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
    assert call("evaluate", path, "--data", tmp_path / "job.yaml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
    assert call("evaluate", place / "one.safetensors", "--data", tmp_path / "job.yaml", "--json") == 0
    del values["teacher"], values["methods"]
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
    capsys.readouterr()
    assert call("evaluate", path, "--data", tmp_path / "job.yaml", "--out", tmp_path / "o", "--json") == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert notes == ["german does not know these classes of the data: red"]


def test_long_work_is_reported_line_by_line_where_there_is_no_terminal(capsys, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(commands.time, "monotonic", lambda: now[0])
    with commands.counted("student", "images") as progress:
        for n in range(1, 13):
            now[0] += 1.0
            progress(n, 12)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["student: 4 of 12 images", "student: 10 of 12 images"]


def report(name: str, ap: float, classes: int = 2) -> dict[str, Any]:
    values = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm"), ap) | {"APl": None}
    rows = [{"class": f"c{k}", "objects": 5, **values, "AP": ap + k} for k in range(classes)]
    types = {"classification": {"count": 1234, "gain": 2.25}, "missed": {"count": 0, "gain": 0.0}}
    return {
        "name": name, "ap": values, "per_class": [*rows, {"class": "none", "objects": 0, **dict.fromkeys(values)}],
        "errors": {"types": types, "false_positives": 10.0, "false_negatives": None}, "best_threshold": None,
        "calibration": {"ece": 0.1234, "bias": 0.05}, "cost": None, "notes": [f"{name} is new"],
        "confusion": {"score": 0.5, "background": 3, "cells": [[0, 0, 9], [0, 1, 4], [1, 0, 6], [3, 0, 99]]},
        "data": {"classes": [f"c{k}" for k in range(classes)] + ["none"]},
    }  # fmt: skip


def test_tables_of_one_and_of_several() -> None:
    one = text_of(*render_report.report_tables([report("a", 10.0)]))
    assert "a most often takes: c1 for c0 (6x), c0 for c1 (4x); score 0.50 or more" in one
    assert ["classification", "1,234", "+2.2"] in words(one)
    assert ["c1", "5", "11.0", "10.0", "10.0", "10.0", "10.0", "-"] in words(one)
    assert not any(row[0] == "none" for row in words(one))
    assert "note: a is new" in one
    two = words(text_of(*render_report.report_tables([report("a", 10.0), report("b", 12.5)])))
    assert ["b", "-", "a", "+2.5", "+2.5", "+2.5", "+2.5", "+2.5", "-"] in two
    assert ["c1", "5", "11.0", "13.5"] in two
    assert ["calibration", "error", "0.123", "0.123"] in two


def test_of_many_classes_the_worst_are_shown() -> None:
    text = text_of(render_report.class_table([report("a", 1.0, classes=30)]))
    assert "the 20 classes with the lowest AP" in text
    assert [row[0] for row in words(text) if row[0].startswith("c") and row[0] != "class"] == [
        f"c{k}" for k in range(20)
    ]
