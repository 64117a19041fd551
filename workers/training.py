"""What one process of an attempt does: fetch what the ticket names to this machine, train, put what comes out into
storage. It reports through `append`, which leads to the attempt's outbox, in this process or in another.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bcd import crash
from bcd.engine.errors import JobError
from bcd.engine.report import RunSink
from bcd.records import StoredObject, Ticket
from bcd.spec import JobSpec, parse_spec, path_faults
from bcd.storage import CorruptObject, Store, open_store
from workers.patience import patiently

_LINE, _FACT = 20_000, 500  # characters of a log line and of a fact that the wire format allows
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
    patience: float  # seconds for which storage that is full or away is waited for

    @property
    def spec(self) -> JobSpec:
        return parse_spec(self.ticket.spec)


@dataclass(frozen=True)
class Files:
    """Storage as an attempt uses it: what is full or away is waited for, and people are told so."""

    store: Store
    patience: float
    give_up: Callable[[], bool]
    tell: Callable[[str], None]

    def put(self, path: Path, *, step: int) -> StoredObject:
        return patiently(
            lambda: self.store.put(path, step=step), seconds=self.patience, give_up=self.give_up, tell=self.tell
        )

    def get(self, stored: StoredObject, into: Path) -> Path:
        """A checked local file of what is in storage. Raises `CorruptObject`."""
        return patiently(
            lambda: self.store.get(stored, into=into), seconds=self.patience, give_up=self.give_up, tell=self.tell
        )


def files_of(work: Work, give_up: Callable[[], bool], append: Append | None) -> Files:
    """The storage of an attempt's work. `append` None: this process tells nobody."""

    def tell(text: str) -> None:
        if append is not None:
            append("log", level="warning", text=printable(text)[:_LINE])

    return Files(open_store(work.storage), work.patience, give_up, tell)


class AttemptSink:
    """What a run reports, as records of the outbox; files go to storage first."""

    def __init__(self, append: Append, files: Files):
        self._append, self._files = append, files

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

    def facts(self, values: dict[str, str]) -> None:
        self._append("facts", values={name: printable(text)[:_FACT] for name, text in values.items()})

    def checkpoint(self, path: Path, step: int) -> None:
        self.artifact("checkpoint", f"step-{step:08d}.ckpt", path, step)

    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None:
        self._append("evaluation", step=step, name=name, protocol=protocol, results=results)

    def artifact(self, type: str, name: str, path: Path, step: int) -> None:
        stored = self._files.put(path, step=step)
        if type == "result":
            crash.point("result.stored")
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
    files: Files | None = None,
    first: bool = True,
) -> None:
    """Let `run` (such as `bcd.api.run_job`) do the work; the `first` of several processes stores the result."""
    spec = work.spec
    _refuse_foreign_paths(spec, work.ticket.data_roots)
    files = files or files_of(work, should_stop, None)
    workdir.mkdir(parents=True, exist_ok=True)
    fetched = workdir / "fetched"
    result = run(
        spec,
        workdir=workdir,
        sink=sink,
        teacher_path=_teacher(spec, work.ticket, files, workdir, fetched),
        data_cache=Path(work.data_cache),
        resume_from=_valid_checkpoints(work.ticket, files, sink, fetched),
        should_stop=should_stop,
        gallery=True,
    )
    if first:
        sink.artifact("result", "student.safetensors", _result_file(Path(result.path)), int(result.steps))


def _refuse_foreign_paths(spec: JobSpec, roots: list[str]) -> None:
    """The service has judged the text of the paths; links can only be followed here. Raises `JobError`."""
    faults = path_faults(spec, roots, resolve=os.path.realpath)
    if faults:
        raise JobError("forbidden-path", "; ".join(f"{pointer}: {message}" for pointer, message in faults))


def _valid_checkpoints(ticket: Ticket, files: Files, sink: RunSink, into: Path) -> Iterator[Path]:
    """Checkpoints to resume from, newest first, whose content is still what was written; each fetched when asked for.

    Storage that is away is waited for: it must never look like checkpoints that are lost.
    """
    for stored in ticket.resume:
        try:
            path = files.get(stored, into)
        except CorruptObject as error:
            sink.log(f"the checkpoint of step {stored.step} is not usable, falling back: {error}", "warning")
            continue
        sink.log(f"attempt {ticket.number} resumes from the checkpoint of step {stored.step}")
        yield path


def _teacher(spec: JobSpec, ticket: Ticket, files: Files, workdir: Path, into: Path) -> Path | None:
    if spec.teacher is None:
        return None
    if spec.teacher.path is not None:
        return Path(spec.teacher.path)
    if ticket.teacher is None:
        raise JobError("no-teacher", f"the teacher, job {spec.teacher.job}, has no stored result")
    try:
        stored = files.get(ticket.teacher, into)
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
