"""A run that is killed in the middle and resumed ends with the bits of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import bcd
from bcd.api import run_job
from bcd.models.files import save_detector
from tests.helpers.runs import TINY, MemorySink, tiny_spec

COMMON = {
    "teacher": {"path": "given", "preflight": "off"},
    "data.train_images": 12,
    "data.augment": {"flip": 0.5},
    "schedule.steps": 10,
    "schedule.accumulate": 2,
    "schedule.checkpoint_every": 3,
    "schedule.clip_norm": 1.0,
    "schedule.keep": "best",
    "schedule.decay": {"type": "multistep", "steps": [7]},
    "evaluation": {"every": 3},
}
RUNS = {
    # Projections of its own, trained from the middle of the run on.
    "own-parameters": {**COMMON, "methods": [{"type": "bckd"}, {"type": "fitnet", "warmup": 0.5}]},
    # A kept teacher, and SGD's momentum.
    "kept-teacher": {**COMMON, "methods": [{"type": "bckd"}], "schedule.optimizer": {"type": "sgd", "lr": 0.01}},
}

# Dies at the first report after the sixth step, whose checkpoint is written and whose evaluation is under way.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from bcd.api import run_job
from tests.helpers.runs import MemorySink
from tests.unit.engine.test_resume import RUNS, tiny_spec

class Killed(MemorySink):
    def evaluation(self, step, *rest):
        if step == 6:
            os.kill(os.getpid(), signal.SIGKILL)

folder, name = Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
teacher, data = folder.parent / "teacher.safetensors", folder.parent / "data"
run_job(tiny_spec(**RUNS[name]), workdir=folder / "cut", sink=Killed(), teacher_path=teacher, data_cache=data)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both runs, at the same time, in processes that were killed."""
    base = tmp_path_factory.mktemp("resume")
    torch.manual_seed(5)
    wide = {**TINY["student"], "width": 12, "fpn_channels": 24}
    teacher = bcd.build_detector(**wide, class_names=tuple("0123456789"))
    save_detector(teacher, base / "teacher.safetensors")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", KILLED, str(base / name), name],
            env=environment,
            cwd=Path(__file__).parents[3],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in RUNS
    }
    for process in started.values():
        _, said = process.communicate(timeout=250)
        assert process.returncode == -signal.SIGKILL, said
    return {name: base / name for name in RUNS}


@pytest.mark.parametrize("name", list(RUNS))
def test_a_killed_run_goes_on_with_the_same_bits(killed, name):
    folder, before = killed[name], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sinks, results = {}, {}
        for which in ("whole", "cut"):
            sinks[which] = MemorySink()
            saved = sorted((folder / which).glob("checkpoints/*.ckpt"), reverse=True)
            assert bool(saved) is (which == "cut")
            results[which] = run_job(
                tiny_spec(**RUNS[name]),
                workdir=folder / which,
                sink=sinks[which],
                teacher_path=folder.parent / "teacher.safetensors",
                data_cache=folder.parent / "data",
                resume_from=saved,
            )
    finally:
        torch.set_num_threads(before)
    whole, cut = sinks["whole"], sinks["cut"]
    assert any("resumed at step 6 of 10" in text for _, text in cut.lines)
    assert any("outputs" in text for _, text in cut.lines) is (name == "kept-teacher")
    # The evaluation of step 6, lost with the process, is made up.
    assert [(step, label) for step, label, _, _ in cut.evaluations][:2] == [(6, "step-6"), (9, "step-9")]
    assert [e for e in whole.evaluations if e[0] >= 6 and e[1] != "final"] == cut.evaluations[:-1]
    assert results["whole"].steps == results["cut"].steps
    assert same(load_file(results["whole"].path), load_file(results["cut"].path))
    # Model, average, methods' parameters, optimizer, and what evaluations decided: all that a checkpoint holds.
    states = [torch.load(sink.checkpoints[-1][1], weights_only=True) for sink in (whole, cut)]
    assert states[0]["step"] == 10
    assert bool(states[0]["extra"]) is (name == "own-parameters")
    assert states[0]["ema"]
    assert states[0]["selection"]["_weights"]
    assert same(*states)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
