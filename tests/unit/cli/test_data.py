"""`bcd data check` as a person types it."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

import service.cli
from service.cli.render_data import data_report
from tests.helpers.runs import TINY
from tests.helpers.tiny_sets import write_tiny_voc
from tests.unit.cli.helpers import text_of, words


@pytest.fixture
def run(capsys, monkeypatch):
    """Type a command: gives exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "100")

    def type_in(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            service.cli.main(list(args))
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return type_in


def test_a_clean_folder_ends_well_and_shows_its_tables(run, tmp_path):
    write_tiny_voc(tmp_path)
    code, out, _ = run("data", "check", str(tmp_path))
    assert code == 0
    assert ["images", "4", "2"] in words(out)
    assert ["image", "sizes", "64x48", "64x48"] in words(out)
    assert "no faults" in out


def test_a_fault_gives_exit_code_1_and_its_place_in_one_line(run, tmp_path):
    write_tiny_voc(tmp_path)
    shutil.copy(tmp_path / "JPEGImages/img000.jpg", tmp_path / "JPEGImages/img005.jpg")
    code, out, _ = run("data", "check", str(tmp_path))
    assert code == 1
    assert "fault: 1 x same image in train and val (train, val)" in out
    assert "  train img000.jpg = val img005.jpg" in out


def test_json_holds_everything_and_several_sources_make_a_list(run, tmp_path):
    write_tiny_voc(tmp_path / "a")
    code, out, _ = run("data", "check", str(tmp_path / "a"), "--json", "--pixels")
    answer = json.loads(out)
    assert (code, answer["ok"], answer["parts"]["train"]["images"]) == (0, True, 4)
    assert len(answer["pixel_version"]) == 64
    code, out, _ = run("data", "check", str(tmp_path / "a"), str(tmp_path), "--json")
    assert [one["ok"] for one in json.loads(out)] == [True, True]
    (tmp_path / "b").mkdir()
    code, out, _ = run("data", "check", str(tmp_path / "a"), str(tmp_path / "b"), "--json")
    assert code == 1
    assert [one["ok"] for one in json.loads(out)] == [True, False]


def test_a_spec_brings_its_image_size_and_strides(run, tmp_path):
    write_tiny_voc(tmp_path / "data")
    raw = {**TINY, "data": write_tiny_voc(tmp_path / "data") | {"root": "elsewhere"}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(raw))
    code, out, _ = run("data", "check", str(tmp_path / "spec.yaml"), "--data-root", str(tmp_path / "data"))
    assert code == 0
    assert "suits stride 16" in out
    assert "suits stride 32" not in out
    code, out, _ = run("data", "check", str(tmp_path / "spec.yaml"))
    assert code == 1
    assert "no such folder" in out


def test_a_source_that_is_not_there_or_no_spec_is_bad_input(run, tmp_path):
    code, _, err = run("data", "check", str(tmp_path / "gone.yaml"))
    assert code == 2
    assert "no such spec file" in err
    (tmp_path / "odd.yaml").write_text("data: {type: coco}\n")
    code, _, err = run("data", "check", str(tmp_path / "odd.yaml"))
    assert code == 2
    assert "/data/root" in err


def test_many_classes_are_summed_up():
    part = {
        "images": 2, "objects": 80, "background": 0, "ignored": 0, "clipped": 0, "most_objects": 40, "left_out": {},
        "notes": {"image without a label file": 1}, "classes": {f"c{n:02d}": n for n in range(40)},
        "boxes": {"small": 80, "medium": 0, "large": 0}, "input_sides": {"<8": 80, "8-16": 0}, "levels": {"8": 80},
        "below_stride": 0, "image_sizes": [[64, 48, 1], [32, 32, 1]], "distinct_sizes": 2, "padding": {},
    }  # fmt: skip
    answer = {
        "source": "x", "type": "voc", "version": None, "pixel_version": None, "parts": {"train": part}, "faults": [],
        "remarks": ["look here"],
    }  # fmt: skip
    shown = text_of(*data_report(answer))
    assert ["c39", "39"] in words(shown)
    assert ["10", "more", "45"] in words(shown)
    assert ["image", "sizes", "64x48", "and", "1", "more"] in words(shown)
    assert "note: train: 1 x image without a label file" in shown
    assert "note: look here" in shown
