"""The folder of a run without a service: what lies in it, when it may be used again, and the sink that fills it.

spec.yaml            the whole spec, every default filled in
facts.json           the code, machine, data and teacher that it rests on
metrics.jsonl        one line for each report: {"step", "time", "values"}
checkpoints/         the newest checkpoints, to go on from after an interruption
student.safetensors  the result (or the folder `student`)
predictions.npz      its detections on the validation images (`bcd.eval.predictions`)
report.json          everything that was measured of them (`bcd.eval.report`)
evaluation.json      the final evaluation; written last, so its presence means that the run is complete
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bcd.spec import JobSpec, SpecError, load_spec
from service.cli.console import EXIT_BAD_INPUT, Fault

KEEP_CHECKPOINTS = 2  # the newest, and one to fall back on should it be damaged
CHECKPOINT = re.compile(r"^step-(\d+)(\..*)?$")


def choose_folder(spec: JobSpec, to: Path | None, parent: Path = Path("runs")) -> Path:
    """`to` if given; else the newest `runs/NAME-N` if it is this run unfinished, else the next number."""
    if to is not None:
        return to
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.name).strip("-.") or "run"
    numbers = [int(p.name[len(name) + 1 :]) for p in parent.glob(f"{name}-*") if p.name[len(name) + 1 :].isdigit()]
    newest = max(numbers, default=0)
    if newest:
        folder = parent / f"{name}-{newest}"
        if not (folder / "evaluation.json").exists() and _spec_of(folder) == spec:
            return folder
    return parent / f"{name}-{newest + 1}"


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, ready to be written to."""

    path: Path
    spec: JobSpec

    @classmethod
    def open(cls, path: Path, spec: JobSpec) -> RunFolder:
        """Make the folder, or take up the unfinished run of the same spec in it. Raises `Fault`."""
        if (path / "evaluation.json").exists():
            raise Fault(f"{path} holds a finished run: choose another folder with --out", EXIT_BAD_INPUT)
        before = _spec_of(path)
        if before is not None and before != spec:
            raise Fault(f"{path} holds a run of another spec: choose another folder with --out", EXIT_BAD_INPUT)
        if before is None and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise Fault(f"{path} is in use by something else: choose another folder with --out", EXIT_BAD_INPUT)
        try:
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Fault(f"cannot make the folder {path}: {error.strerror}", EXIT_BAD_INPUT) from None
        _write(path / "spec.yaml", yaml.safe_dump(spec.canonical(), sort_keys=False, allow_unicode=True))
        return cls(path, spec)

    @property
    def work(self) -> Path:
        return self.path / "work"

    def checkpoints(self) -> list[Path]:
        """Checkpoints, newest first."""
        found = [(int(m[1]), p) for p in (self.path / "checkpoints").iterdir() if (m := CHECKPOINT.match(p.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def keep_checkpoint(self, path: Path, step: int) -> None:
        """Keep a checkpoint that the trainer has written; the trainer may drop its own copy at any time."""
        _keep(path, self.path / "checkpoints" / f"step-{step:08d}{path.suffix}")
        for old in self.checkpoints()[KEEP_CHECKPOINTS:]:
            old.unlink(missing_ok=True)

    def keep_artifact(self, path: Path, name: str) -> None:
        """Keep another file that the run has written in its work folder."""
        _keep(path, self.path / name)

    def drop_if_unused(self) -> None:
        """Remove the folder again if the run has left neither metrics, checkpoint nor result in it."""
        if any((self.path / name).exists() for name in ("evaluation.json", "metrics.jsonl")) or self.checkpoints():
            return
        for folder in (self.work, self.path / "checkpoints"):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("spec.yaml", "facts.json"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # something else lies in it
            self.path.rmdir()

    def finish(self, result: Path, evaluation: dict[str, Any]) -> Path:
        """Put the result and its evaluation in place, and drop what was only for the way."""
        if result.is_dir():
            student = self.path / "student"
            shutil.rmtree(student, ignore_errors=True)
            shutil.copytree(result, student)
        else:
            student = self.path / "student.safetensors"
            shutil.copy2(result, student)
        _write(self.path / "evaluation.json", json.dumps(evaluation, indent=2, ensure_ascii=False))
        for folder in (self.work, self.path / "checkpoints"):
            shutil.rmtree(folder, ignore_errors=True)
        return student


class MetricsFile:
    """metrics.jsonl, in which nothing stands twice: of steps that an interrupted run did again, the second counts."""

    def __init__(self, path: Path):
        self._path = path
        self._start: int | None = None  # the step of our first report

    def add(self, step: int, values: dict[str, float]) -> None:
        self._start = step if self._start is None else self._start
        if step == self._start:
            self._drop_from(step, values)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "time": time.time(), "values": values}) + "\n")

    def _drop_from(self, step: int, values: dict[str, float]) -> None:
        if not self._path.exists():
            return
        kept = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                known = json.loads(line)
                # losses and AP of one step are two reports
                if known["step"] < step or (known["step"] == step and not known["values"].keys() & values.keys()):
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # half a line: the process died while writing it
        _write(self._path, "".join(kept))


class LocalSink:
    """Takes what a run reports (`bcd.api.RunSink`) into its folder, and shows it."""

    def __init__(self, folder: RunFolder, show: Callable[[str, dict[str, Any]], None]):
        """`show(kind, data)` with kind `metrics`, `log` or `phase`."""
        self._folder, self._show = folder, show
        self._file = MetricsFile(folder.path / "metrics.jsonl")
        self._facts: dict[str, str] = {}
        self.checkpoint_step: int | None = None
        self.final: dict[str, Any] = {}

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self._file.add(step, values)
        self._show("metrics", {"step": step, "values": values})

    def log(self, text: str, level: str = "info") -> None:
        self._show("log", {"text": text, "level": level})

    def checkpoint(self, path: Path, step: int) -> None:
        self._folder.keep_checkpoint(path, step)
        self.checkpoint_step = step

    def artifact(self, type: str, name: str, path: Path, step: int) -> None:
        self._folder.keep_artifact(path, name)

    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None:
        if name == "final":
            self.final = {"step": step, "name": name, "protocol": protocol, "results": results}

    def facts(self, values: dict[str, str]) -> None:
        self._facts |= values
        _write(self._folder.path / "facts.json", json.dumps(self._facts, indent=1) + "\n")

    def phase(self, name: str) -> None:
        self._show("phase", {"name": name})


def _spec_of(folder: Path) -> JobSpec | None:
    try:
        return load_spec(folder / "spec.yaml")
    except SpecError:
        return None


def _keep(path: Path, kept: Path) -> None:
    """A second name for a file, or a copy of it; it appears whole or not at all."""
    aside = kept.with_name(f".{kept.name}.part")
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except OSError:
        shutil.copy2(path, aside)
    aside.replace(kept)


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
