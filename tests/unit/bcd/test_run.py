"""A job runs from its spec to a plain student: same seed same bits, resume changes nothing, faults are named."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import bcd
from bcd.api import Cancelled, JobError, run_job
from bcd.engine import run as engine_run
from bcd.spec import JobSpec
from tests.helpers.runs import MemorySink, tiny_spec


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    return run_job(tiny_spec(seed=7), workdir=folder, sink=MemorySink(), data_cache=cache).path


def distilled(**changes):
    untrained = {"path": "given", "preflight": "off"}
    return tiny_spec(**{"teacher": untrained, "methods": [{"type": "bckd", "warmup": 0.25}], **changes})


def test_a_run_reports_losses_ap_checkpoints_and_a_plain_student(tmp_path, cache, teacher):
    sink = MemorySink()
    result = run_job(distilled(), workdir=tmp_path, sink=sink, teacher_path=teacher, data_cache=cache)
    assert sink.phases == ["data", "train", "evaluate"]
    assert sink.series("loss/bckd_cls")
    assert sink.series("loss/bckd_loc")
    for _, values in sink.values:
        parts = [value for key, value in values.items() if key.startswith("loss/")]
        if "loss" in values and "loss/bckd_cls" in values:
            assert values["loss"] == pytest.approx(sum(parts), rel=0.35)  # terms are means over the steps they ran in
    assert [step for step, _ in sink.checkpoints] == [4, 8]
    assert [name for _, name, _, _ in sink.evaluations] == ["final"]
    assert 0 <= result.evaluation["AP"] <= 100
    plain = bcd.build_detector(**tiny_spec().student.model_dump(), num_classes=10)
    plain.load_state_dict(load_file(result.path), strict=True)  # no teacher, no wrapper in it
    assert bcd.load_detector(result.path).info.class_names == tuple("0123456789")


def test_the_student_starts_from_the_same_weights_and_batches_with_and_without_teacher(tmp_path, cache, teacher):
    """Weight 0 distils nothing, so both runs end with the same bits."""
    off = distilled(**{"methods": [{"type": "bckd", "weight": 0}]})
    a = run_job(off, workdir=tmp_path / "a", sink=MemorySink(), teacher_path=teacher, data_cache=cache)
    b = run_job(tiny_spec(), workdir=tmp_path / "b", sink=MemorySink(), data_cache=cache)
    assert_same_weights(a.path, b.path)


def test_a_resumed_run_ends_with_the_same_bits_as_an_uninterrupted_one(tmp_path, cache, teacher):
    spec = distilled()
    whole = run_job(spec, workdir=tmp_path / "whole", sink=MemorySink(), teacher_path=teacher, data_cache=cache)
    steps = iter(range(100))
    with pytest.raises(Cancelled):
        run_job(
            spec,
            workdir=tmp_path / "cut",
            sink=MemorySink(),
            teacher_path=teacher,
            data_cache=cache,
            should_stop=lambda: next(steps) >= 4,
        )
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bcd-prefetch")]
    saved = sorted((tmp_path / "cut" / "checkpoints").iterdir(), reverse=True)
    assert saved[0].name == "step-00000005.ckpt"
    sink = MemorySink()
    rest = run_job(spec, workdir=tmp_path / "cut", sink=sink, teacher_path=teacher, data_cache=cache, resume_from=saved)
    assert min(step for step, _ in sink.values) > 5
    assert_same_weights(whole.path, rest.path)
    assert rest.evaluation == whole.evaluation


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, cache):
    run_job(tiny_spec(), workdir=tmp_path, sink=MemorySink(), data_cache=cache)
    newest, older = sorted((tmp_path / "checkpoints").iterdir(), reverse=True)
    damaged = newest.read_bytes()
    newest.write_bytes(damaged[: len(damaged) // 2])
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"digest": "another"}, foreign)
    sink = MemorySink()
    run_job(tiny_spec(), workdir=tmp_path / "again", sink=sink, data_cache=cache, resume_from=[foreign, newest, older])
    warnings = [text for level, text in sink.lines if level == "warning"]
    assert any("another spec" in text for text in warnings)
    assert any("damaged" in text for text in warnings)
    assert min(step for step, _ in sink.values) > 4


def test_images_without_any_box_train(tmp_path, cache):
    spec = distilled(**{"data.min_objects": 0, "data.max_objects": 1, "schedule.batch_size": 2})
    sink = MemorySink()
    teacher = run_job(
        tiny_spec(**{"data.min_objects": 0, "data.max_objects": 1}),
        workdir=tmp_path / "t",
        sink=MemorySink(),
        data_cache=cache,
    ).path
    run_job(spec, workdir=tmp_path / "s", sink=sink, teacher_path=teacher, data_cache=cache)
    assert all(value == value for value in sink.series("loss"))


def test_a_teacher_with_other_classes_is_refused_before_the_first_step(tmp_path, cache):
    other = bcd.build_detector(**tiny_spec().student.model_dump(), class_names=["cat", "dog"])
    path = bcd.models.files.save_detector(other, tmp_path / "other.safetensors")
    sink = MemorySink()
    with pytest.raises(
        JobError, match=r"teacher's 2 classes \(cat, dog\) and the data's 10 .* no name in common; give teacher.classes"
    ):
        run_job(distilled(), workdir=tmp_path, sink=sink, teacher_path=path, data_cache=cache)
    assert not sink.values


def test_a_teacher_with_the_classes_in_another_order_teaches_by_name(tmp_path, cache, teacher):
    model = bcd.load_detector(teacher)
    order = torch.tensor([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    with torch.no_grad():
        model.head.cls.weight.copy_(model.head.cls.weight[order])
        model.head.cls.bias.copy_(model.head.cls.bias[order])
    names = tuple(model.info.class_names[i] for i in order)
    model.info = bcd.models.detector.DetectorInfo(model.info.arguments, names)
    shuffled = bcd.models.files.save_detector(model, tmp_path / "shuffled.safetensors")
    a = run_job(distilled(), workdir=tmp_path / "a", sink=MemorySink(), teacher_path=teacher, data_cache=cache)
    b = run_job(distilled(), workdir=tmp_path / "b", sink=MemorySink(), teacher_path=shuffled, data_cache=cache)
    ours, theirs = load_file(a.path), load_file(b.path)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"not safetensors", b'\x10\x00\x00\x00\x00\x00\x00\x00{"a": 1}'])
def test_a_file_that_is_no_detector_is_refused_with_the_reason(tmp_path, cache, content):
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(content)
    with pytest.raises(JobError, match="teacher"):
        run_job(distilled(), workdir=tmp_path, sink=MemorySink(), teacher_path=path, data_cache=cache)


def test_a_missing_teacher_file_is_named(tmp_path, cache):
    with pytest.raises(JobError, match=r"no such detector file.*nowhere"):
        run_job(distilled(), workdir=tmp_path, sink=MemorySink(), teacher_path=tmp_path / "nowhere", data_cache=cache)


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_no_bad_checkpoint(tmp_path, cache):
    spec = tiny_spec(**{"schedule.optimizer.lr": 1e30, "schedule.warmup_steps": 0})
    with pytest.raises(JobError, match=r"infinite or NaN.*schedule\.optimizer\.lr") as caught:
        run_job(spec, workdir=tmp_path, sink=MemorySink(), data_cache=cache)
    assert caught.value.code == "non-finite-loss"
    assert not list(tmp_path.glob("checkpoints/*"))


def assert_same_weights(a: Path, b: Path) -> None:
    ours, theirs = load_file(a), load_file(b)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.fixture(autouse=True)
def _tidy(tmp_path):
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_a_run_of_epochs_tells_its_length_and_the_best_weights_do_not_take_it_back(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(JobSpec, "planned_steps", lambda spec: None)  # as for data sets of files
    sink, rising = MemorySink(), iter((30.0, 20.0, 10.0, 5.0))
    real = engine_run.evaluate_detector
    monkeypatch.setattr(engine_run, "evaluate_detector", lambda *a, **k: {**real(*a, **k), "AP": next(rising)})
    spec = tiny_spec(**{"schedule.steps": None, "schedule.epochs": 1, "schedule.keep": "best", "evaluation.every": 2})
    result = run_job(spec, workdir=tmp_path, sink=sink, data_cache=cache)
    assert result.steps == 2
    assert sink.values[0] == (0, {"total_steps": 8.0})
    steps = [step for step, _ in sink.values]
    assert steps == sorted(steps)


def test_a_run_tells_what_it_rests_on(tmp_path, cache, teacher):
    sink = MemorySink()
    run_job(distilled(), workdir=tmp_path, sink=sink, teacher_path=teacher, data_cache=cache)
    assert sink.known["teacher_sha256"] == hashlib.sha256(teacher.read_bytes()).hexdigest()
    assert ("info", f"data version: {sink.known['data_version']}") in sink.lines
    assert (sink.known["torch"], sink.known["device"]) == (torch.__version__, "cpu")
    assert sink.known["bcd_version"] == bcd.__version__
