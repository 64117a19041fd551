"""Compiled teacher and student learn what the plain ones learn, and leave the same files."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import bcd
from bcd.api import JobError, run_job
from bcd.engine.parts import check_compiler
from bcd.engine.task import DetectionTask
from bcd.methods import build_method
from bcd.methods.teacher import Teacher
from bcd.models.files import save_detector
from bcd.spec import BckdMethod
from tests.helpers.runs import TINY, MemorySink, tiny_spec
from tests.helpers.toys import part

CPU = torch.device("cpu")


def test_a_compiled_run_learns_the_same(tmp_path: Path):
    torch.manual_seed(5)
    teacher = bcd.build_detector(**{**TINY["student"], "width": 12}, class_names=tuple("0123456789"))
    path = save_detector(teacher, tmp_path / "teacher.safetensors")
    results, sinks = {}, {}
    for mode in ("off", "aot_eager"):
        spec = tiny_spec(
            **{
                "teacher": {"path": "given", "preflight": "off", "cache": "off"},
                "methods": [{"type": "bckd"}],
                "schedule.steps": 3,
                "schedule.ema": 0,
                "schedule.compile": mode,
                "evaluation": {"every": 2},
                "schedule.optimizer": {"type": "sgd", "lr": 0.01},
            }
        )
        sinks[mode] = MemorySink()
        results[mode] = run_job(
            spec, workdir=tmp_path / mode, sink=sinks[mode], teacher_path=path, data_cache=tmp_path / "data"
        )
    plain, compiled = (load_file(result.path) for result in results.values())
    assert list(plain) == list(compiled)
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name], rtol=1e-4, atol=1e-5)
    assert sinks["aot_eager"].series("loss") == pytest.approx(sinks["off"].series("loss"), rel=1e-4)
    states = [torch.load(sink.checkpoints[-1][1], weights_only=True)["model"] for sink in sinks.values()]
    assert list(states[0]) == list(states[1])


def test_the_task_uses_compiled_code_but_where_modules_are_watched(monkeypatch):
    calls = []

    def wrapped(module, backend):
        def run(*given):
            calls.append((type(module).__name__, backend))
            return module(*given)

        return run

    monkeypatch.setattr(torch, "compile", wrapped)
    student, teacher = (bcd.build_detector(**TINY["student"], num_classes=3) for _ in range(2))
    method = build_method(BckdMethod(type="bckd"), student, teacher)
    task = DetectionTask(student, Teacher(teacher, student, CPU), [method])
    task.compile("aot_eager")
    given = part(0, images=1)
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    task(images, given.targets, 0.0, nullcontext())
    assert calls == [("GFL", "aot_eager")] * 2
    with task.plain():
        task(images, given.targets, 0.0, nullcontext())
    assert len(calls) == 2
    task(images, given.targets, 0.0, nullcontext())
    assert len(calls) == 4


def test_a_machine_without_a_compiler_is_told_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(JobError, match=r"needs a C\+\+ compiler \(g\+\+ or clang\+\+\).*schedule\.compile: off"):
        run_job(tiny_spec(**{"schedule.compile": "inductor"}), workdir=tmp_path, sink=MemorySink())
    check_compiler("aot_eager", CPU)
