"""Commands that need no service: train (the same spec, in this process), validate, schema."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.console import EXIT_INTERRUPTED, Fault, out, remark, say
from service.cli.files import SET_HELP

if TYPE_CHECKING:
    from bcd.spec import JobSpec
    from service.cli.runs import RunFolder
    from service.client import Job

PHASES = {"data": "loading data", "train": "training", "evaluate": "evaluating"}
LOG_STYLES = {"warning": "yellow", "error": "red", "debug": "dim"}

File = Annotated[Path, typer.Argument(help="Spec file (YAML or JSON).", show_default=False)]


def validate(
    file: File,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
) -> None:
    """Check a spec file without running it.

    Where the teacher's file can be read, also whether teacher, student and methods fit together. Data and the
    teacher's weights are looked at only when the job runs.
    """
    from bcd.spec import check_pair, teacher_arguments
    from service.cli.files import read_spec

    spec = read_spec(file, change)
    teacher = teacher_arguments(spec.teacher.path) if spec.teacher is not None and spec.teacher.path else None
    if teacher is not None:
        check_pair(spec, teacher)
    elif spec.teacher is not None:
        where = spec.teacher.path or f"job {spec.teacher.job}"
        remark(f"teacher not read ({where}): whether it fits the student is decided when the job runs", "yellow")
    methods = ", ".join(method.type for method in spec.methods) or "no distillation"
    steps = spec.planned_steps()
    length = f"{spec.schedule.epochs:g} epochs" if steps is None else f"{steps} steps"
    say(f"{file}: valid ({spec.name}: {spec.data.type}, {methods}, {length}, seed {spec.seed})")


def schema() -> None:
    """Print the JSON schema of the spec."""
    import json

    from bcd.spec import JobSpec

    say(json.dumps(JobSpec.model_json_schema(), indent=2))


def train(
    file: File,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of this run, in place of the file's.")] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder of this run. [default: runs/NAME-N]", show_default=False)
    ] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Folder of the data set (data.root).")] = None,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", help="Teacher written by bcd, in place of the file's; other settings stay."),
    ] = None,
) -> None:
    """Train here and now, without a service.

    Writes metrics.jsonl, evaluation.json, report.json, predictions.npz, student.safetensors and spec.yaml into the
    run's folder. Ctrl-C leaves a checkpoint; the same command again goes on from there.
    """
    from bcd.spec import SpecError
    from service.cli.files import read_spec

    spec = read_spec(file, change, seed=seed, data_root=data_root, teacher=teacher)
    if spec.teacher is not None and spec.teacher.path is None:
        raise SpecError([("/teacher/job", "needs a service; give a teacher file with --teacher FILE")])
    if spec.teacher is not None and spec.teacher.path is not None and not Path(spec.teacher.path).exists():
        raise SpecError([("/teacher/path", f"no such file: {spec.teacher.path}")])

    from service.cli.runs import RunFolder, choose_folder

    folder = RunFolder.open(choose_folder(spec, to), spec)
    try:
        _run(folder)
    finally:
        folder.drop_if_unused()


def _run(folder: RunFolder) -> None:
    """Train in the folder, with progress; Ctrl-C stops after the current step."""
    from service.cli import render
    from service.cli.board import Board, shown
    from service.cli.runs import LocalSink
    from service.client import Event

    remark(f"run folder: {folder.path}")
    console = out()
    job = _as_job(folder.spec)
    with shown(Board(["local"]), console) as take:
        take(Event("job", "local", dict(job)))
        import torch  # seconds, hence within the display

        from bcd.api import Cancelled, JobError, run_job

        torch.set_num_threads(folder.spec.resources.cpus)  # as a worker does: the same spec gives the same run

        def show(kind: str, data: dict[str, Any]) -> None:
            if kind == "metrics":
                take(Event("job.metrics", "local", data))
            elif kind == "phase":
                job["state"] = PHASES.get(data["name"], data["name"])
                take(Event("job", "local", dict(job)))
            else:
                console.print(data["text"], markup=False, soft_wrap=True, style=LOG_STYLES.get(data["level"]))

        sink = LocalSink(folder, show)
        teacher = folder.spec.teacher.path if folder.spec.teacher is not None else None
        try:
            with _stop_on_interrupt() as stopping:
                result = run_job(
                    folder.spec,
                    workdir=folder.work,
                    sink=sink,
                    teacher_path=Path(teacher) if teacher is not None else None,
                    data_cache=data_cache(),
                    resume_from=folder.checkpoints(),
                    should_stop=stopping.is_set,
                )
        except JobError as error:
            raise Fault(f"{error.code}: {error}") from None
        except Cancelled:
            job["state"], result = "cancelled", None
        else:
            job["state"] = "succeeded"
        job["ended_at"] = time.time()
        take(Event("job", "local", dict(job)))
    if result is None:
        at = f" (checkpoint of step {sink.checkpoint_step})" if sink.checkpoint_step is not None else ""
        kept = bool(folder.checkpoints())
        remark(f"stopped{at}; the same command {'goes on from there' if kept else 'starts again'}")
        raise typer.Exit(EXIT_INTERRUPTED)
    evaluation = sink.final or {"step": result.steps, "results": result.evaluation}
    student = folder.finish(result.path, evaluation)
    say(f"AP {render.ap(result.evaluation.get('AP'))} after {result.steps} steps, {render.duration(result.seconds)}")
    say(f"student: {student}")


def data_cache() -> Path:
    """Where generated and converted data sets are kept for runs without a service."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bcd" / "data"


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """The first Ctrl-C or SIGTERM sets the event, a second one interrupts at once."""
    stopping = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, frame: object) -> None:
        stopping.set()
        for known, handler in before.items():
            signal.signal(known, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, handle)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_job(spec: JobSpec) -> Job:
    """The run in the form in which the service would show it, for the common display."""
    now = time.time()
    return {
        "id": "local",
        "name": spec.name,
        "state": "starting",
        "cause": None,
        "spec": {},
        "step": 0,
        "total_steps": spec.planned_steps() or 0,
        "teacher_job_id": None,
        "created_at": now,
        "started_at": now,
        "ended_at": None,
        "attempts": [],
        "evaluation": None,
        "seed": spec.seed,
        "methods": [method.type for method in spec.methods],
    }
