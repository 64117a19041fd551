"""The folder of a run without a service: when it is taken up again, and what it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bcd.spec import load_spec
from service.cli.console import Fault
from service.cli.runs import LocalSink, RunFolder, choose_folder

SPEC = load_spec(Path(__file__).parents[3] / "recipes" / "demo-baseline.yaml")
OTHER = SPEC.model_copy(update={"seed": 5})


def test_the_first_run_is_number_one_and_a_finished_one_is_never_touched(tmp_path):
    assert choose_folder(SPEC, None, tmp_path) == tmp_path / "demo-baseline-1"
    RunFolder.open(tmp_path / "demo-baseline-1", SPEC)
    (tmp_path / "demo-baseline-1" / "evaluation.json").write_text("{}")
    assert choose_folder(SPEC, None, tmp_path) == tmp_path / "demo-baseline-2"


def test_an_unfinished_run_of_the_same_spec_is_taken_up_again(tmp_path):
    RunFolder.open(tmp_path / "demo-baseline-1", SPEC)
    assert choose_folder(SPEC, None, tmp_path) == tmp_path / "demo-baseline-1"
    assert choose_folder(OTHER, None, tmp_path) == tmp_path / "demo-baseline-2"


def test_a_folder_of_another_spec_is_refused(tmp_path):
    RunFolder.open(tmp_path / "run", SPEC)
    with pytest.raises(Fault, match="another spec"):
        RunFolder.open(tmp_path / "run", OTHER)


def test_a_finished_folder_is_refused(tmp_path):
    RunFolder.open(tmp_path / "run", SPEC)
    (tmp_path / "run" / "evaluation.json").write_text("{}")
    with pytest.raises(Fault, match="finished"):
        RunFolder.open(tmp_path / "run", SPEC)


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Fault, match="something else"):
        RunFolder.open(tmp_path, SPEC)


def test_a_run_that_left_nothing_leaves_no_folder(tmp_path):
    folder = RunFolder.open(tmp_path / "run", SPEC)
    folder.work.mkdir()
    folder.drop_if_unused()
    assert not folder.path.exists()


def test_a_folder_with_anything_of_a_run_in_it_stays(tmp_path):
    with_metrics, finished, with_checkpoint = (RunFolder.open(tmp_path / name, SPEC) for name in "abc")
    (with_metrics.path / "metrics.jsonl").write_text("")
    (finished.path / "evaluation.json").write_text("{}")
    (with_checkpoint.path / "checkpoints" / "step-00000003.ckpt").write_text("")
    for folder in (with_metrics, finished, with_checkpoint):
        folder.drop_if_unused()
        assert (folder.path / "spec.yaml").exists()


def test_what_somebody_else_put_into_the_folder_stays(tmp_path):
    folder = RunFolder.open(tmp_path / "run", SPEC)
    (folder.path / "notes.txt").write_text("mine")
    folder.drop_if_unused()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_the_newest_two_checkpoints_are_kept_newest_first(tmp_path):
    folder = RunFolder.open(tmp_path / "run", SPEC)
    written = tmp_path / "checkpoint.pt"
    for step in (200, 1000, 400):
        written.unlink(missing_ok=True)
        written.write_text(str(step))
        folder.keep_checkpoint(written, step)
    written.unlink()
    assert [path.read_text() for path in folder.checkpoints()] == ["1000", "400"]


def test_a_step_that_is_done_twice_stands_once_in_the_metrics(tmp_path):
    folder = RunFolder.open(tmp_path / "run", SPEC)
    first = LocalSink(folder, lambda kind, data: None)
    for step in (20, 40, 60):
        first.metrics(step, {"loss": 1.0})
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8')  # the process died here
    second = LocalSink(folder, lambda kind, data: None)
    second.metrics(60, {"loss": 2.0})
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["values"]["loss"]) for line in lines] == [(20, 1.0), (40, 1.0), (60, 2.0)]


def test_no_report_of_the_first_step_stands_twice(tmp_path):
    folder = RunFolder.open(tmp_path / "run", SPEC)
    for loss in (1.0, 2.0):
        sink = LocalSink(folder, lambda kind, data: None)
        for values in ({"total_steps": 80.0}, {"loss": loss}):
            sink.metrics(40, values)
    lines = [json.loads(line)["values"] for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"total_steps": 80.0}, {"loss": 2.0}]


def test_a_finished_run_holds_the_result_and_no_leftovers(tmp_path):
    folder = RunFolder.open(tmp_path / "run", SPEC)
    folder.work.mkdir()
    result = folder.work / "weights.safetensors"
    result.write_bytes(b"weights")
    folder.finish(result, {"results": {"AP": 1.0}})
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "evaluation.json",
        "spec.yaml",
        "student.safetensors",
    ]
    assert load_spec(folder.path / "spec.yaml") == SPEC


def test_the_ap_of_the_last_step_does_not_drop_its_losses(tmp_path):
    folder = RunFolder.open(tmp_path / "run", SPEC)
    LocalSink(folder, lambda kind, data: None).metrics(60, {"loss": 1.0})
    LocalSink(folder, lambda kind, data: None).metrics(60, {"AP": 30.0})
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["values"] for line in lines] == [{"loss": 1.0}, {"AP": 30.0}]
