"""One attempt of one job, from ticket to final record, in the calling process and without Ray.

The attempt owns its work folder (outbox, checkpoints being written) and removes it once the service has acknowledged
everything. What the training function does is `bcd.api.run_job`; it is a parameter so that tests can pass another.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bcd import crash
from bcd.records import StoredObject, Ticket
from bcd.spec import JobSpec, parse_spec, path_faults
from bcd.storage import CorruptObject, Store, open_store
from workers.channel import Channel, HttpChannel, Stale, Unreachable
from workers.outbox import Outbox
from workers.patience import may_pass, patiently

PATIENCE = 24 * 3600.0  # seconds; a result is worth waiting for the service and for storage, whatever they are doing
_CAUSE, _TRACEBACK, _LINE = 4000, 100_000, 20_000  # lengths that the wire format allows
_VALUES = 2000  # scalars of one record
_FACT = 500  # characters
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class AttemptArgs:
    """Which attempt to run and where its things are. All values are plain text, so that they travel anywhere."""

    attempt_id: str
    epoch: int
    api_url: str
    storage: str
    work: str
    data_cache: str
    token: str = field(repr=False)

    @property
    def folder(self) -> Path:
        return Path(self.work) / self.attempt_id


class BadTeacher(Exception):
    """The teacher's file is missing or damaged."""


class AttemptSink:
    """What `run_job` reports, as records of the outbox; files go to storage first, and wait for it if need be."""

    def __init__(self, outbox: Outbox, store: Store, *, patience: float, give_up: Callable[[], bool]):
        self._outbox, self._store, self._patience, self._give_up = outbox, store, patience, give_up

    def metrics(self, step: int, values: dict[str, float]) -> None:
        finite = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        odd = sorted(set(values) - set(finite))
        items = list(finite.items())
        for i in range(0, len(items), _VALUES):  # AP of each class: a data set may have thousands
            self._outbox.append("metric", step=step, values=dict(items[i : i + _VALUES]))
        if odd:
            self.log(f"step {step}: not a finite number: {', '.join(odd)}", "warning")

    def log(self, text: str, level: str = "info") -> None:
        self._outbox.append("log", level=level, text=_printable(text)[:_LINE])

    def phase(self, name: str) -> None:
        self.log(name)

    def facts(self, values: dict[str, str]) -> None:
        self._outbox.append("facts", values={name: _printable(text)[:_FACT] for name, text in values.items()})

    def checkpoint(self, path: Path, step: int) -> None:
        self.artifact("checkpoint", f"step-{step:08d}.ckpt", path, step)

    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None:
        self._outbox.append("evaluation", step=step, name=name, protocol=protocol, results=results)

    def artifact(self, type: str, name: str, path: Path, step: int) -> None:
        stored = self._patiently(lambda: self._store.put(path, step=step))
        if type == "result":
            crash.point("result.stored")
        self._outbox.append(
            "artifact", type=type, name=name, step=step, sha256=stored.sha256, size=stored.size, key=stored.key
        )

    def fetch(self, stored: StoredObject, into: Path) -> Path:
        """A checked local file of what is in storage. Raises `CorruptObject`."""
        return self._patiently(lambda: self._store.get(stored, into=into))

    def _patiently(self, act: Callable[[], _Result]) -> _Result:
        return patiently(
            act, seconds=self._patience, give_up=self._give_up, tell=lambda text: self.log(text, "warning")
        )


def run_attempt(
    args: AttemptArgs,
    *,
    run: Callable[..., Any] | None = None,
    channel: Channel | None = None,
    patience: float = PATIENCE,
    stop: Callable[[], bool] = lambda: False,
) -> str:
    """Run one attempt to its end and deliver everything. Returns succeeded, failed, cancelled or stale.

    `run` is the training function (default `bcd.api.run_job`), `patience` the seconds for which an unanswered delivery
    is kept up and storage that is full or away is waited for, `stop` asks for an early end. Nothing that training
    raises leaves this function: it becomes a record.
    """
    channel = channel or HttpChannel(args.api_url, args.attempt_id, args.epoch, args.token)
    try:
        ticket = _fetch_ticket(channel, patience, stop)
    except (Stale, Unreachable):
        return "stale"
    crash.point("ticket.fetched")
    outbox = Outbox(args.folder / "outbox.jsonl", channel, next_seq=ticket.next_seq, lease_seconds=ticket.lease_seconds)
    final = _train(args, ticket, outbox, run, patience, stop)
    delivered = outbox.close(patience)
    if outbox.stale.is_set():
        final = "stale"
    if delivered or final == "stale":
        shutil.rmtree(args.folder, ignore_errors=True)
    return final


def _fetch_ticket(channel: Channel, patience: float, stop: Callable[[], bool]) -> Ticket:
    deadline, pause = time.monotonic() + patience, 0.2
    while True:
        try:
            return channel.ticket()
        except Unreachable:
            if stop() or time.monotonic() > deadline:
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(5.0, pause * 2)


def _train(
    args: AttemptArgs,
    ticket: Ticket,
    outbox: Outbox,
    run: Callable[..., Any] | None,
    patience: float,
    stop: Callable[[], bool],
) -> str:
    """Train and write the final record, unless this attempt went stale. Returns the final state."""

    def should_stop() -> bool:
        return outbox.cancel.is_set() or outbox.stale.is_set() or stop()

    outbox.append("state", state="running")
    crash.point("outbox.first")
    try:
        sink = AttemptSink(outbox, open_store(args.storage), patience=patience, give_up=should_stop)
        spec = parse_spec(ticket.spec)
        _refuse_foreign_paths(spec, ticket.data_roots)
        result = _call_run(args, ticket, spec, sink, run, should_stop)
        sink.artifact("result", "student.safetensors", _result_file(Path(result.path)), int(result.steps))
        final: dict[str, Any] = {"state": "succeeded"}
    except BaseException as error:  # also SystemExit and the like: the service must hear of every end
        final = _final_record(error)
    if outbox.stale.is_set():
        return "stale"
    outbox.append("state", **final)
    crash.point("final.recorded")
    return str(final["state"])


def _call_run(
    args: AttemptArgs,
    ticket: Ticket,
    spec: JobSpec,
    sink: AttemptSink,
    run: Callable[..., Any] | None,
    should_stop: Callable[[], bool],
) -> Any:
    if run is None:
        import torch

        from bcd.api import run_job

        # Ray starts workers with one OpenMP thread; the job's own figure counts.
        torch.set_num_threads(spec.resources.cpus)
        run = run_job
    workdir, fetched = args.folder / "run", args.folder / "fetched"
    workdir.mkdir(parents=True, exist_ok=True)
    return run(
        spec,
        workdir=workdir,
        sink=sink,
        teacher_path=_teacher(spec, ticket, sink, workdir, fetched),
        data_cache=Path(args.data_cache),
        resume_from=_valid_checkpoints(ticket, sink, fetched),
        should_stop=should_stop,
    )


def _refuse_foreign_paths(spec: JobSpec, roots: list[str]) -> None:
    """The service has judged the text of the paths; links can only be followed here. Raises `JobError`."""
    faults = path_faults(spec, roots, resolve=os.path.realpath)
    if faults:
        from bcd.api import JobError

        raise JobError("forbidden-path", "; ".join(f"{pointer}: {message}" for pointer, message in faults))


def _valid_checkpoints(ticket: Ticket, sink: AttemptSink, into: Path) -> Iterator[Path]:
    """Checkpoints to resume from, newest first, whose content is still what was written; each fetched when asked for.

    Storage that is away is waited for: it must never look like checkpoints that are lost.
    """
    for stored in ticket.resume:
        try:
            path = sink.fetch(stored, into)
        except CorruptObject as error:
            sink.log(f"the checkpoint of step {stored.step} is not usable, falling back: {error}", "warning")
            continue
        sink.log(f"attempt {ticket.number} resumes from the checkpoint of step {stored.step}")
        yield path


def _teacher(spec: JobSpec, ticket: Ticket, sink: AttemptSink, workdir: Path, into: Path) -> Path | None:
    if spec.teacher is None:
        return None
    if spec.teacher.path is not None:
        return Path(spec.teacher.path)
    if ticket.teacher is None:
        raise BadTeacher(f"the teacher, job {spec.teacher.job}, has no stored result")
    try:
        stored = sink.fetch(ticket.teacher, into)
    except CorruptObject as error:
        raise BadTeacher(f"the result of the teacher, job {spec.teacher.job}, is not usable: {error}") from error
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


def _final_record(error: BaseException) -> dict[str, Any]:
    """How an end by exception is reported: faults of the machine may be retried, those of the job itself never."""
    from bcd.api import PROCESS_DIED, Cancelled, JobError

    if isinstance(error, Cancelled):
        return {"state": "cancelled"}
    if isinstance(error, JobError | BadTeacher):
        # A process that was ended from outside is to its run what a lost worker is to its attempt.
        again = isinstance(error, JobError) and error.code == PROCESS_DIED
        return {"state": "failed", "cause": _one_line(str(error)), "retryable": again}
    text = "".join(traceback.format_exception(error))
    cause = "out of memory: use a smaller schedule.batch_size" if isinstance(error, MemoryError) else ""
    cause = cause or f"{type(error).__name__}: {error}"
    return {
        "state": "failed",
        "cause": _one_line(cause),
        "retryable": may_pass(error),
        "traceback": _printable(text)[-_TRACEBACK:],
    }


def _one_line(text: str) -> str:
    return (" ".join(_printable(text).split()) or "no message")[:_CAUSE]


def _printable(text: str) -> str:
    """Without lone surrogates, which no record may hold: names of files that are not UTF-8 have them."""
    return text.encode("utf-8", "backslashreplace").decode()
