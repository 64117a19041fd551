"""One attempt of one job, from ticket to final record, in the calling process and without Ray.

The attempt owns its work folder (outbox, checkpoints being written) and removes it once the service has acknowledged
everything. What trains is a parameter: the supervisor passes Ray Train for several processes, tests pass functions.
"""

from __future__ import annotations

import random
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bcd import crash
from bcd.engine.errors import PROCESS_DIED, Cancelled, JobError
from bcd.records import Ticket
from bcd.spec import JobSpec
from workers.channel import Channel, HttpChannel, Stale, Unreachable
from workers.outbox import Outbox
from workers.patience import may_pass
from workers.training import Append, AttemptSink, Work, files_of, printable, train

PATIENCE = 24 * 3600.0  # seconds; a result is worth waiting for the service and for storage, whatever they are doing
_CAUSE, _TRACEBACK = 4000, 100_000  # lengths that the wire format allows
# Trains what takes several processes: the work, where its records go, whether to stop.
Together = Callable[[Work, Append, Callable[[], bool]], None]


@dataclass(frozen=True)
class AttemptArgs:
    """Which attempt to run and where its things are. All values are plain text, so that they travel anywhere.

    `work` is a folder of the worker's own machine. Of a dead worker the dispatcher takes over what its outbox there has
    left, if it can see it. From another machine it cannot: then the next attempt makes it again, from the last
    checkpoint that was delivered.
    """

    attempt_id: str
    epoch: int
    api_url: str
    storage: str
    work: str
    data_cache: str
    token: str = field(repr=False)
    again: bool = False  # the worker may serve another attempt after this one

    @property
    def folder(self) -> Path:
        return Path(self.work) / self.attempt_id


def run_attempt(
    args: AttemptArgs,
    *,
    run: Callable[..., Any] | None = None,
    together: Together | None = None,
    channel: Channel | None = None,
    patience: float = PATIENCE,
    stop: Callable[[], bool] = lambda: False,
) -> str:
    """Run one attempt to its end and deliver everything. Returns succeeded, failed, cancelled or stale.

    `run` is the training function (default `run_alone`), `together` trains what takes several processes (default:
    `run`, too), `patience` the seconds for which an unanswered delivery is kept up and storage that is full or away is
    waited for, `stop` asks for an early end. Nothing that training raises leaves this function: it becomes a record.
    """
    channel = channel or HttpChannel(args.api_url, args.attempt_id, args.epoch, args.token)
    try:
        ticket = _fetch_ticket(channel, patience, stop)
    except (Stale, Unreachable):
        return "stale"
    crash.point("ticket.fetched")
    outbox = Outbox(args.folder / "outbox.jsonl", channel, next_seq=ticket.next_seq, lease_seconds=ticket.lease_seconds)
    final = _train(args, ticket, outbox, run or run_alone, together, patience, stop)
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
    run: Callable[..., Any],
    together: Together | None,
    patience: float,
    stop: Callable[[], bool],
) -> str:
    """Train and write the final record, unless this attempt went stale. Returns the final state."""
    work = Work(ticket, args.storage, str(args.folder), args.data_cache, patience)

    def should_stop() -> bool:
        return outbox.cancel.is_set() or outbox.stale.is_set() or stop()

    outbox.append("state", state="running")
    crash.point("outbox.first")
    try:
        if together is not None and work.spec.resources.world > 1:
            together(work, outbox.append, should_stop)
        else:
            files = files_of(work, should_stop, outbox.append)
            sink = AttemptSink(outbox.append, files)
            train(work, run, sink, workdir=args.folder / "run", should_stop=should_stop, files=files)
        final: dict[str, Any] = {"state": "succeeded"}
    except BaseException as error:  # also SystemExit and the like: the service must hear of every end
        final = _final_record(error)
    if outbox.stale.is_set():
        return "stale"
    outbox.append("state", **final)
    crash.point("final.recorded")
    return str(final["state"])


def run_alone(spec: JobSpec, **given: Any) -> Any:
    """`bcd.api.run_job` in this process and, where the spec asks for several, in children of it."""
    import torch

    from bcd.api import run_job

    # Ray starts workers with one OpenMP thread; the job's own figure counts.
    torch.set_num_threads(spec.resources.cpus)
    return run_job(spec, **given)


def _final_record(error: BaseException) -> dict[str, Any]:
    """How an end by exception is reported: faults of the machine may be retried, those of the job itself never."""
    if isinstance(error, Cancelled):
        return {"state": "cancelled"}
    if isinstance(error, JobError):
        # A process that was ended from outside is to its run what a lost worker is to its attempt.
        return {"state": "failed", "cause": _one_line(str(error)), "retryable": error.code == PROCESS_DIED}
    text = "".join(traceback.format_exception(error))
    cause = "out of memory: use a smaller schedule.batch_size" if isinstance(error, MemoryError) else ""
    cause = cause or f"{type(error).__name__}: {error}"
    return {
        "state": "failed",
        "cause": _one_line(cause),
        "retryable": may_pass(error),
        "traceback": printable(text)[-_TRACEBACK:],
    }


def _one_line(text: str) -> str:
    return (" ".join(printable(text).split()) or "no message")[:_CAUSE]
