"""Several processes train as one does; whatever happens to one of them, none is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from bcd.api import Cancelled, JobError, run_job
from bcd.engine import distributed
from bcd.models.build import build_detector
from bcd.models.files import save_detector
from tests.helpers.runs import TINY, MemorySink, tiny_spec

# FitNet has parameters of its own and rests in the first step; FCOS has divisors of its own.
DISTILLED = {
    "teacher": {"path": "given", "preflight": "off", "cache": "off"},
    "methods": [{"type": "bckd"}, {"type": "fitnet", "warmup": 0.5}],
    "student.detector": "fcos",
    "student.prior_scale": None,
    "schedule.batch_size": 8,
    "schedule.steps": 4,
    "schedule.optimizer": {"type": "sgd", "lr": 0.01},
    "schedule.checkpoint_every": 3,
    "evaluation": {"every": 2},
}


@pytest.fixture
def no_child_left():
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    yield
    after = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert not after
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bcd-")]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("no_child_left", "threads")
def test_two_processes_with_half_a_batch_each_are_one_with_the_whole(tmp_path: Path):
    torch.set_num_threads(1)
    torch.manual_seed(5)
    wide = {**TINY["student"], "width": 12, "fpn_channels": 24}
    teacher = save_detector(build_detector(**wide, class_names=tuple("0123456789")), tmp_path / "teacher.safetensors")
    sinks, results = [], []
    for world in (1, 2):
        sinks.append(MemorySink())
        spec = tiny_spec(**DISTILLED, **{"resources": {"cpus": world, "processes": world}})
        work = tmp_path / str(world)
        cache = tmp_path / "data"
        results.append(run_job(spec, workdir=work, sink=sinks[-1], teacher_path=teacher, data_cache=cache))
    one, two = (load_file(result.path) for result in results)
    assert one.keys() == two.keys()
    start = build_detector(**{**TINY["student"], "detector": "fcos", "prior_scale": None}, num_classes=10)
    assert one.keys() == start.state_dict().keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6)
    assert sinks[1].phases == sinks[0].phases == ["data", "train", "evaluate"]
    assert [step for step, _ in sinks[1].checkpoints] == [3, 4]
    assert [name for _, name, _, _ in sinks[1].evaluations] == ["step-2", "final"]
    for key in ("loss", "loss/bckd_cls", "loss/fitnet_features", "grad_norm"):
        assert sinks[0].series(key)
        assert sinks[1].series(key) == pytest.approx(sinks[0].series(key), rel=1e-4)
    # The methods' own parameters are trained alike, too.
    states = [torch.load(sink.checkpoints[-1][1], weights_only=True)["extra"] for sink in sinks]
    assert states[0]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-6)


# --- the caller's side, with processes that need no torch ----------------------------------------------------

HELPER = """
import os, sys, time
from multiprocessing.connection import Connection
pipe = Connection(int(os.environ["BCD_CHANNEL"]))
def call(name, *given):
    pipe.send(("call", (name, given)))
    return pipe.recv()
pipe.recv_bytes()  # what to do: played here
rank = int(os.environ["RANK_OF_TEST"])
"""


def play(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let the processes run a script in place of training."""
    code = HELPER + textwrap.dedent(script)
    ranks = iter(range(10))
    real = subprocess.Popen

    def start(command, env, **options):
        assert command[1:] == ["-m", "bcd.engine.distributed"]
        return real([sys.executable, "-c", code], env={**env, "RANK_OF_TEST": str(next(ranks))}, **options)

    monkeypatch.setattr(distributed.subprocess, "Popen", start)


def together(tmp_path: Path, **options):
    spec = tiny_spec(**{"resources.processes": 2})
    sink = options.pop("sink", MemorySink())
    return run_job(spec, workdir=tmp_path, sink=sink, data_cache=tmp_path, **options)


@pytest.mark.usefixtures("no_child_left")
def test_a_process_that_is_killed_ends_the_run_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "GRACE", 0.5)
    play(monkeypatch, "os.kill(os.getpid(), 9) if rank == 1 else time.sleep(60)")
    with pytest.raises(JobError, match=r"process 2 of 2 was ended by signal 9 .*schedule\.batch_size") as caught:
        together(tmp_path)
    assert caught.value.code == "process-died"
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_child_left")
def test_the_fault_of_the_job_counts_and_not_what_it_did_to_the_others(tmp_path, monkeypatch):
    play(
        monkeypatch,
        """
        if rank == 0:
            pipe.send(("error", RuntimeError("connection closed by peer")))
            time.sleep(60)
        time.sleep(0.5)
        from bcd.engine.errors import JobError
        pipe.send(("error", JobError("bad-data", "image 7 does not open")))
        time.sleep(60)
        """,
    )
    monkeypatch.setattr(distributed, "GRACE", 60.0)
    with pytest.raises(JobError, match="image 7 does not open") as caught:
        together(tmp_path)
    assert caught.value.code == "bad-data"


@pytest.mark.usefixtures("no_child_left")
def test_reports_reach_the_sink_and_what_the_sink_raises_ends_the_run(tmp_path, monkeypatch):
    class Full(MemorySink):
        def checkpoint(self, path: Path, step: int) -> None:
            raise OSError(28, "no space left")

    script = """
    if rank == 0:
        call("metrics", 3, {"loss": 1.5})
        call("log", "hello", "warning")
        assert call("stop") is False
        call("checkpoint", "x", 3)
    time.sleep(60)
    """
    play(monkeypatch, script)
    sink = Full()
    with pytest.raises(OSError, match="no space"):
        together(tmp_path, sink=sink)
    assert sink.values == [(3, {"loss": 1.5})]
    assert sink.lines == [("warning", "hello")]


@pytest.mark.usefixtures("no_child_left")
def test_a_request_to_stop_is_passed_on(tmp_path, monkeypatch):
    script = """
    from bcd.engine.errors import Cancelled
    while rank == 0 and not call("stop"):
        pass
    pipe.send(("error", Cancelled("stopped at step 3"))) if rank == 0 else None
    time.sleep(60)
    """
    play(monkeypatch, script)
    asked = iter([False, False, True])
    with pytest.raises(Cancelled, match="step 3"):
        together(tmp_path, should_stop=lambda: next(asked))


def test_a_process_ends_when_its_parent_is_gone(tmp_path):
    """The parent starts a watcher and is killed."""
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import sys, time; from bcd.engine import distributed as d;"
        " d._follow(int(sys.argv[1])); print(1, flush=True); time.sleep(120)', str(os.getpid())])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\ntime.sleep(120)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline().strip() == b"1"
        child = psutil.Process(int((tmp_path / "pid").read_text()))
        parent.kill()
    child.wait(timeout=60)
    assert not child.is_running()
