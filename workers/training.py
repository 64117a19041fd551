"""What one process of an attempt does: fetch what the ticket names to this machine, train, put what comes out into
storage. It reports through `append`, which leads to the attempt's outbox, in this process or in another.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bcd.engine.errors import JobError
from bcd.engine.report import RunSink
from bcd.records import StoredObject, Ticket
from bcd.spec import JobSpec, parse_spec
from workers.storage import CorruptObject, Storage

_LINE = 20_000  # characters of a log line that the wire format allows
_VALUES = 2000  # scalars of one record


class Append(Protocol):
    """Writes one record to the attempt's outbox."""

    def __call__(self, kind: str, **fields: Any) -> object: ...


@dataclass(frozen=True)
class Work:
    """An attempt's training as every process of it must know it: plain values, no secret."""

    ticket: Ticket
    storage: str
    folder: str
    data_cache: str

    @property
    def spec(self) -> JobSpec:
        return parse_spec(self.ticket.spec)


class AttemptSink:
    """What a run reports, as records of the outbox; files go to storage first."""

    def __init__(self, append: Append, storage: Storage):
        self._append, self._storage = append, storage

    def metrics(self, step: int, values: dict[str, float]) -> None:
        finite = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        odd = sorted(set(values) - set(finite))
        items = list(finite.items())
        for i in range(0, len(items), _VALUES):  # AP of each class: a data set may have thousands
            self._append("metric", step=step, values=dict(items[i : i + _VALUES]))
        if odd:
            self.log(f"step {step}: not a finite number: {', '.join(odd)}", "warning")

    def log(self, text: str, level: str = "info") -> None:
        self._append("log", level=level, text=printable(text)[:_LINE])

    def phase(self, name: str) -> None:
        self.log(name)

    def checkpoint(self, path: Path, step: int) -> None:
        self.artifact("checkpoint", f"step-{step:08d}.ckpt", path, step)

    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None:
        self._append("evaluation", step=step, name=name, protocol=protocol, results=results)

    def artifact(self, type: str, name: str, path: Path, step: int) -> None:
        stored = self._storage.put(path, step=step)
        self._append(
            "artifact", type=type, name=name, step=step, sha256=stored.sha256, size=stored.size, key=stored.key
        )


def train(
    work: Work,
    run: Callable[..., Any],
    sink: RunSink,
    *,
    workdir: Path,
    should_stop: Callable[[], bool],
    first: bool = True,
) -> None:
    """Let `run` (such as `bcd.api.run_job`) do the work; the `first` of several processes stores the result."""
    spec, storage = work.spec, Storage(Path(work.storage))
    workdir.mkdir(parents=True, exist_ok=True)
    resume = _valid_checkpoints(work.ticket.resume, storage, sink)
    if resume:
        step = _step_of(work.ticket, resume[0])
        sink.log(f"attempt {work.ticket.number} resumes from the checkpoint of step {step}")
    result = run(
        spec,
        workdir=workdir,
        sink=sink,
        teacher_path=_teacher(spec, work.ticket, storage, workdir),
        data_cache=Path(work.data_cache),
        resume_from=resume,
        should_stop=should_stop,
    )
    if first:
        sink.artifact("result", "student.safetensors", _result_file(Path(result.path)), int(result.steps))


def _step_of(ticket: Ticket, path: Path) -> int:
    return next(stored.step for stored in ticket.resume if Path(stored.key).name == path.name)


def _valid_checkpoints(stored: list[StoredObject], storage: Storage, sink: RunSink) -> list[Path]:
    """Checkpoints to resume from, newest first, whose content is still what was written."""
    paths: list[Path] = []
    for item in stored:
        try:
            paths.append(storage.get(item))
        except CorruptObject as error:
            sink.log(f"the checkpoint of step {item.step} is not usable, falling back: {error}", "warning")
    return paths


def _teacher(spec: JobSpec, ticket: Ticket, storage: Storage, workdir: Path) -> Path | None:
    if spec.teacher is None:
        return None
    if spec.teacher.path is not None:
        return Path(spec.teacher.path)
    if ticket.teacher is None:
        raise JobError("no-teacher", f"the teacher, job {spec.teacher.job}, has no stored result")
    try:
        stored = storage.get(ticket.teacher)
    except CorruptObject as error:
        text = f"the result of the teacher, job {spec.teacher.job}, is not usable: {error}"
        raise JobError("bad-teacher", text) from error
    # Stored files are named by hash; readers go by the suffix.
    named = workdir / "teacher.safetensors"
    with contextlib.suppress(FileExistsError):
        os.symlink(stored.resolve(), named)
    return named


def _result_file(path: Path) -> Path:
    """The weights file of a result that may be a folder. Raises FileNotFoundError."""
    if path.is_file():
        return path
    files = sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise FileNotFoundError(f"expected one .safetensors file in {path.name}, found {len(files)}")
    return files[0]


def printable(text: str) -> str:
    """Without lone surrogates, which no record may hold: names of files that are not UTF-8 have them."""
    return text.encode("utf-8", "backslashreplace").decode()
