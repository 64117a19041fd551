"""An attempt that several processes train: what they say to their supervisor, and what it makes of that.

`Team` is the supervisor's side: it writes to the outbox, knows whether to stop and finds the cause when something went
wrong. `Member` is a process's side. Between the two are calls that wait for their answer, whoever carries them, so that
the first process's records arrive in order.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from bcd.engine.errors import Cancelled, JobError
from bcd.engine.faults import GRACE, is_cause, most_telling, portable
from workers.training import Append

ASK_EVERY = 1.0  # seconds
# Seconds to finish a step and to write a checkpoint in, once asked to stop. Less than the dispatcher's patience, after
# which it ends the supervisor itself.
STOP_GRACE = 45.0
END_GRACE = 3.0  # seconds in which processes that were told to end do so

Order = Literal["go on", "stop", "end"]
# What Ray Train found: the error of each process that ended without a word, by rank; none after a success.
Lost = dict[int, JobError]


class Team:
    """The supervisor's side. `record`, `ask` and `report` are the calls of the processes, from any thread.

    `begun` is whether the first process has got as far as to report; `faults` are the errors of all, by rank.
    """

    def __init__(self, append: Append, should_stop: Callable[[], bool], *, stop_grace: float = STOP_GRACE):
        self._append, self._should_stop, self._stop_grace = append, should_stop, stop_grace
        self._lock, self._open, self.begun = threading.Lock(), True, False
        self.faults: dict[int, BaseException] = {}

    def record(self, kind: str, fields: dict[str, Any]) -> bool | BaseException:
        """Write to the outbox. True when that is done, False when nobody wants it any more, else what went wrong."""
        self.begun = True
        with self._lock:
            if not self._open:
                return False
            try:
                self._append(kind, **fields)
            except Exception as error:
                return portable(error)
            return True

    def ask(self) -> Order:
        """What a process is to do."""
        if not self._open:
            return "end"
        return "stop" if self._should_stop() else "go on"

    def report(self, rank: int, error: BaseException) -> None:
        """The error with which a process ends."""
        with self._lock:
            if self._open:
                self.faults.setdefault(rank, error)

    def run(self, fit: Callable[[], Lost]) -> None:
        """Let `fit` start the processes and wait for them. Raises what ended the training, or `Cancelled`.

        What `fit` itself raises counts where no process had a fault of its own. A process that does not stop in time
        is not waited for: it is told to end, and ends with this process at the latest.
        """
        lost: Lost = {}
        raised: list[BaseException] = []

        def call() -> None:
            try:
                lost.update(fit())
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=call, name="fit", daemon=True)
        thread.start()
        overdue = self._wait(thread)
        with self._lock:
            self._open = False
        errors = list(self.faults.values())
        if overdue:
            thread.join(END_GRACE)
            errors.append(Cancelled("did not stop in time" if self.begun else "stopped before it began"))
        else:
            errors += [error for rank, error in lost.items() if rank not in self.faults]
            errors = errors or raised
        if errors:
            raise most_telling(errors)

    def _wait(self, thread: threading.Thread) -> bool:
        """Wait for the end. True when it was asked for and took too long."""
        asked: float | None = None
        while thread.is_alive():
            thread.join(0.2)
            if asked is None and self._should_stop():
                asked = time.monotonic()
            grace = self._stop_grace if self.begun else 0.0
            if asked is not None and time.monotonic() - asked > grace:
                return thread.is_alive()
        return False


class Member:
    """A process's side. `call(name, *given)` calls the supervisor and raises `Gone` when there is none any more."""

    def __init__(self, rank: int, call: Callable[..., Any], leave: Callable[[int], Any] = os._exit):
        self._rank, self._call, self._leave = rank, call, leave
        self._stop = threading.Event()
        self._obey()
        threading.Thread(target=self._follow, name="supervisor", daemon=True).start()

    def append(self, kind: str, **fields: Any) -> None:
        """Write to the attempt's outbox."""
        answer = self._reach("record", kind, fields)
        if isinstance(answer, BaseException):
            raise answer
        if not answer:
            self._leave(1)

    def should_stop(self) -> bool:
        return self._stop.is_set()

    def fail(self, error: BaseException) -> None:
        """Say what went wrong here. Returns late where it may be the consequence of another process's end."""
        self._reach("report", self._rank, portable(error))
        if not is_cause(error):
            time.sleep(GRACE)

    def _follow(self) -> None:
        while True:
            time.sleep(ASK_EVERY)
            self._obey()

    def _obey(self) -> None:
        order: Order = self._reach("ask")
        if order == "stop":
            self._stop.set()
        elif order == "end":
            self._leave(1)

    def _reach(self, name: str, *given: Any) -> Any:
        try:
            return self._call(name, *given)
        except Gone:
            # A new attempt will go on from the last checkpoint; whatever this process would do is in its way.
            self._leave(1)
            raise


class Gone(Exception):
    """The supervisor has ended."""
