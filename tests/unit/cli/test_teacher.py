"""`bcd teacher inspect` and `bcd teacher import` as a person types them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import service.cli
from bcd.models.files import load_detector
from tests.helpers.foreign import mmdet_state

NAMES = ["cat", "dog", "cow"]


@pytest.fixture
def run(capsys, monkeypatch):
    """Type a command: gives exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "100")

    def type_in(*args: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            service.cli.main([str(arg) for arg in args])
        shown = capsys.readouterr()
        code = ended.value.code
        return (0 if code is None else int(code)), shown.out, shown.err

    return type_in


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FCOS as a bare state dict: its classes, normalisation and box code are open."""
    path = tmp_path_factory.mktemp("teacher") / "fcos.pth"
    torch.save(mmdet_state("fcos"), path)
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\n\ncow\n")
    return path


def test_inspect_names_what_fits_and_what_is_open(run, bare: Path):
    code, shown, _ = run("teacher", "inspect", bare)
    assert code == 0
    for words in ("mmdetection", "fcos", "resnet18", "torch checkpoint", "3, without names", "8, 16, 32, 64, 128",
                  "channels BGR", "122.772, 115.947, 102.98"):  # fmt: skip
        assert words in shown, words
    assert "to import it, give names of its 3 classes: --classes FILE" in shown


def test_inspect_as_json(run, bare: Path, classes: Path):
    code, shown, _ = run("teacher", "inspect", bare, "--json", "--classes", classes, "--rgb")
    found = json.loads(shown)
    assert code == 0
    assert (found["detector"], found["class_names"], found["missing"]) == ("fcos", NAMES, [])
    assert found["mean"] == [123.675, 116.28, 103.53]
    assert found["problem"] is None


def test_import_writes_a_teacher_and_prints_its_hash(run, bare: Path, classes: Path, tmp_path: Path):
    target = tmp_path / "teacher.safetensors"
    code, shown, err = run("teacher", "import", bare, "-o", target, "--classes", classes, "--bgr", "--style", "pytorch",
                           "--mean", "1,2,3", "--std", "4,5,6", "--variant", "box_code=relu")  # fmt: skip
    assert code == 0, err
    assert "fcos resnet18, 3 classes" in shown
    model = load_detector(target)
    assert model.info.mean == (3.0, 2.0, 1.0)
    assert model.info.std == (6.0, 5.0, 4.0)
    assert model.options.variant.box_code == "relu"
    printed = shown.split("sha256 of its contents: ")[1].strip()
    code, shown, _ = run("teacher", "inspect", target, "--json")
    found = json.loads(shown)
    assert found["content_sha256"] == printed
    assert found["source"]["file"] == "fcos.pth"
    code, shown, _ = run("teacher", "inspect", target)
    assert "ready to use as a teacher" in shown
    assert "framework mmdetection" in shown


def test_import_tells_what_it_assumed(run, bare: Path, classes: Path, tmp_path: Path):
    code, shown, err = run("teacher", "import", bare, "-o", tmp_path / "t.safetensors", "--classes", classes, "--json")
    assert code == 0
    assert "assumed: channels BGR" in err
    assert json.loads(shown)["format"] == "bcd"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "does not name its 3 classes"),
        (["--style", "keras"], "--style is pytorch or caffe, not keras"),
        (["--mean", "1,2"], "--mean takes three numbers"),
        (["--std", "1,0,1"], "--std takes numbers above 0"),
        (["--variant", "box_code"], "--variant takes KEY=VALUE"),
        (["--variant", "box_code=square"], "box_code must be one of exp, relu"),
        (["--classes", "absent.txt"], "cannot read absent.txt"),
        (["--detector", "gfl"], "parameters do not belong to an MMDetection gfl"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(run, bare: Path, classes: Path, tmp_path: Path, options, message):
    names = ["--classes", classes] if options and options[0] != "--classes" else []
    code, _, err = run("teacher", "import", bare, "-o", tmp_path / "t.safetensors", *names, *options)
    assert code == 2
    assert message in err
    assert not (tmp_path / "t.safetensors").exists()


def test_a_malicious_file_is_refused_and_told(run, tmp_path: Path):
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {}, "meta": Evil()}, path)
    code, shown, _ = run("teacher", "inspect", path)
    assert code == 1
    assert "cannot be used: reading it would call posix.mkdir" in shown
    code, _, err = run("teacher", "import", path, "-o", tmp_path / "t.safetensors")
    assert code == 2
    assert "posix.mkdir" in err
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pth"]


def test_a_file_that_is_not_there(run, tmp_path: Path):
    for command in (("inspect",), ("import", "-o", tmp_path / "t.safetensors")):
        code, _, err = run("teacher", command[0], tmp_path / "absent.pth", *command[1:])
        assert code == 2
        assert "no such file" in err
