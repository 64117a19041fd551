"""`bcd export` and `bcd doctor` as a person meets them: messages, tables, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

import bcd
from bcd.models.files import save_detector
from service.cli import main
from tests.helpers.runs import TINY, tiny_spec


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    made = bcd.build_detector(**tiny_spec().student.model_dump(), class_names=list("0123456789"))
    return save_detector(made, tmp_path / "m.safetensors")


def run(*args: object) -> int:
    try:
        main([str(arg) for arg in args])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def spec_file(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


def test_the_doctor_refuses_an_untrained_teacher_with_exit_code_1(model, tmp_path, capsys):
    spec = spec_file(tmp_path / "s.yaml", teacher={"path": str(model)}, methods=[{"type": "bckd"}])
    assert run("doctor", spec, "--images", 8) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "fail teacher.accuracy the teacher finds next to nothing" in text
    assert "do not run it like this" in text


def test_the_doctor_answers_in_json_and_with_0_when_nothing_fails(model, tmp_path, capsys):
    assert run("doctor", spec_file(tmp_path / "s.yaml"), "--images", 8, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] in ("ok", "warn")
    assert {f["check"] for f in answer["findings"]} == {"data", "student.positives", "memory"}


def test_the_doctor_tells_bad_input_by_exit_code_2(tmp_path, capsys):
    assert run("doctor", tmp_path / "nowhere.yaml") == 2
    assert "no such spec file" in capsys.readouterr().err


def test_export_writes_a_torch_program_and_says_what_it_measured(model, tmp_path, capsys):
    assert run("export", model, "--format", "torch", "--size", "64x64", "--out", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "same as torch: largest differences logits" in text
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["m.pt2", "m.pt2.json"]


@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (["--size", "64"], "write HEIGHTxWIDTH", 2),
        (["--format", "tflite"], "choose onnx or torch", 2),
        (["--int8"], "give --data SPEC", 1),
    ],
)
def test_export_says_what_to_change(model, capsys, args, message, code):
    assert run("export", model, *args) == code
    assert message in capsys.readouterr().err


def test_export_of_a_file_that_is_none_is_bad_input(tmp_path, capsys):
    assert run("export", tmp_path / "nowhere.safetensors", "--format", "torch") == 2
    assert "no such detector file" in capsys.readouterr().err
