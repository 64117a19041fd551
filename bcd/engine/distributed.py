"""A run in several processes of one machine: `run_together` starts and watches them, `main` is one of them.

The processes are children of the caller and new interpreters, so they need nothing of its main module. Each has a pipe
to the caller. Over it the first process reports and asks whether to stop, and any process says what went wrong; the
caller then ends all of them. A process whose caller is gone ends itself. Training uses a process group (nccl on GPUs,
gloo elsewhere) that meets at a file, so no port has to be free.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import bcd
from bcd.engine.errors import JobError
from bcd.engine.faults import GRACE, is_cause, most_telling, portable, process_died
from bcd.engine.processes import group_timeout, processes_of_group
from bcd.engine.report import RunResult, RunSink, Silent
from bcd.spec import JobSpec, parse_spec

_CHANNEL = "BCD_CHANNEL"
_REPORTS = frozenset(name for name in vars(Silent) if not name.startswith("_"))  # all that a sink can be told


@dataclass(frozen=True)
class _Start:
    """What a process must know to begin."""

    spec: dict[str, Any]
    arguments: dict[str, Any]
    rank: int
    world: int
    meeting: str
    parent: int


def run_together(
    spec: JobSpec,
    *,
    workdir: Path,
    sink: RunSink,
    teacher_path: Path | None = None,
    data_cache: Path | None = None,
    resume_from: Iterable[Path] = (),
    should_stop: Callable[[], bool] = lambda: False,
    gallery: bool = False,
) -> RunResult:
    """`bcd.api.run_job` in `spec.resources.world` processes. None of them is left when it returns or raises."""
    arguments = {
        "workdir": workdir, "teacher_path": teacher_path, "data_cache": data_cache, "resume_from": list(resume_from),
        "gallery": gallery,
    }  # fmt: skip
    meeting = tempfile.mkdtemp(prefix="bcd-")
    children: list[_Child] = []
    try:
        for rank in range(spec.resources.world):
            start = _Start(
                spec.canonical(), arguments, rank, spec.resources.world, os.path.join(meeting, "store"), os.getpid()
            )
            children.append(_Child(start, max(1, spec.resources.cpus // spec.resources.world)))
        return _attend(children, sink, should_stop)
    finally:
        for child in children:
            child.end()
        shutil.rmtree(meeting, ignore_errors=True)


class _Child:
    """One process and our end of its pipe."""

    def __init__(self, start: _Start, threads: int):
        self.rank, self.ended = start.rank, False
        self.pipe, theirs = Pipe()
        # The package is found where it was found here, whatever the folder and however it was installed.
        paths = [str(Path(bcd.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            "GLOO_SOCKET_IFNAME": "lo",  # one machine: the host's name need not resolve
            "TORCH_CPP_LOG_LEVEL": "ERROR",  # DistributedDataParallel warns of a flag that is set for good reason
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": str(threads),
            _CHANNEL: str(theirs.fileno()),
        }
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bcd.engine.distributed"],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        finally:
            theirs.close()
        self.pipe.send(start)

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait()


def _attend(children: list[_Child], sink: RunSink, should_stop: Callable[[], bool]) -> RunResult:
    """Pass on what the processes say, until the first one is done or something went wrong."""
    by_pipe = {child.pipe: child for child in children}
    result: RunResult | None = None
    faults: list[BaseException] = []
    deadline = float("inf")
    while by_pipe and time.monotonic() < deadline:
        left = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        for pipe in wait(list(by_pipe), left):
            assert isinstance(pipe, Connection)
            child = by_pipe[pipe]
            try:
                kind, value = pipe.recv()
            except (EOFError, OSError):
                del by_pipe[pipe]
                if not child.ended:
                    faults.append(_died(child, len(children)))
                continue
            if kind == "call":
                name, given = value
                assert name in _REPORTS or name == "stop", name
                pipe.send(should_stop() if name == "stop" else getattr(sink, name)(*given))
            elif kind == "done":
                child.ended = True
                del by_pipe[pipe]
                result = value if child.rank == 0 else result
            else:
                child.ended = True
                del by_pipe[pipe]  # it waits to be ended, so that the others do not stumble over its absence
                faults.append(value)
        if faults and deadline == float("inf"):
            deadline = time.monotonic() + (0.0 if is_cause(faults[0]) else GRACE)
    if faults:
        raise most_telling(faults)
    assert result is not None
    return result


def _died(child: _Child, world: int) -> JobError:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(GRACE)
    code = child.process.returncode
    how = (
        "closed its pipe" if code is None else f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    )
    hint = " (9 is often the system, out of memory: lower schedule.batch_size)" if code == -9 else ""
    return process_died(child.rank, world, how + hint)


# --- within a process -------------------------------------------------------------------------------------------


class _PipeSink(Silent):
    """Hands every report to the caller and waits until it was taken."""

    def __init__(self, pipe: Connection):
        self._pipe = pipe

    def call(self, name: str, *given: Any) -> Any:
        self._pipe.send(("call", (name, given)))
        return self._pipe.recv()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.call("metrics", step, values)

    def log(self, text: str, level: str = "info") -> None:
        self.call("log", text, level)

    def phase(self, name: str) -> None:
        self.call("phase", name)

    def facts(self, values: dict[str, str]) -> None:
        self.call("facts", values)

    def checkpoint(self, path: Path, step: int) -> None:
        self.call("checkpoint", path, step)

    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None:
        self.call("evaluation", step, name, protocol, results)

    def artifact(self, type: str, name: str, path: Path, step: int) -> None:
        self.call("artifact", type, name, path, step)


def main() -> None:
    """One process of a run; what it is to do comes through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the caller decides
    pipe = Connection(int(os.environ.pop(_CHANNEL)))
    start: _Start = pipe.recv()
    _follow(start.parent)
    try:
        result = _take_part(start, pipe)
        pipe.send(("done", result if start.rank == 0 else None))
    except BaseException as error:
        with contextlib.suppress(OSError):  # nobody is left to be told
            pipe.send(("error", portable(error)))
    # The caller ends all processes at once: one that left early would make the others fail in its place.
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    os._exit(0)


def _take_part(start: _Start, pipe: Connection) -> RunResult:
    from bcd.engine.run import run_here  # seconds: not while the caller waits for the pipe to be taken up

    spec = parse_spec(start.spec)
    torch.set_num_threads(max(1, spec.resources.cpus // start.world))
    options: dict[str, Any] = {"init_method": f"file://{start.meeting}", "rank": start.rank, "world_size": start.world}
    gpu = spec.resources.gpus > 0 and torch.cuda.is_available()
    if gpu and torch.cuda.device_count() >= start.world:
        torch.cuda.set_device(start.rank)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=group_timeout(gpu), **options)
    sink = _PipeSink(pipe)
    return run_here(
        spec,
        sink=sink,
        should_stop=lambda: bool(sink.call("stop")),
        processes=processes_of_group(),
        **start.arguments,
    )


def _follow(parent: int) -> None:
    """End this process when its parent is gone, however that came about."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="bcd-parent", daemon=True).start()


if __name__ == "__main__":
    # Under its own name, so that what travels through the pipe is of the same classes at both ends.
    from bcd.engine.distributed import main as run_main

    run_main()
