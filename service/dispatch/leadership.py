"""Which of several equal dispatchers acts: the one that holds a row of `leaders` and renews it in time.

Each new leader raises the row's epoch. Whoever writes as the leader locks the row first and compares the epoch, in the
same transaction: a leader that was stopped and wakes up finds another epoch, or a lock that its database has taken
from it, and writes nothing. What is no write (to start or to end a worker) asks `check` right before.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bcd import crash
from service.db import Database
from service.models import Leader

DISPATCH = "dispatch"  # the task of the one that claims jobs, reconciles, and mirrors


class NotLeading(Exception):
    """Another process leads, or may lead: stop acting."""


class Leadership:
    """This process as a candidate for a task. Call `seek` again and again; act only while it says True.

    One thread seeks; others may ask `is_leader` and use `writing`. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        db: Database,
        task: str,
        *,
        seconds: float,
        clock: Callable[[], float] = time.time,
        holder: str | None = None,
    ):
        self.task, self.holder = task, holder or this_process()
        self.epoch: int | None = None  # of our leadership, None while we do not lead
        self._db, self._seconds, self._clock = db, seconds, clock
        self._until = 0.0

    def is_leader(self) -> bool:
        """Do we lead for sure? Not when we could not renew in time."""
        return self.epoch is not None and self._clock() < self._until

    def check(self) -> None:
        """Raises `NotLeading`."""
        if not self.is_leader():
            raise NotLeading(f"this process does not lead the task {self.task!r}")

    def seek(self) -> bool:
        """Renew when half of the time is over; take over when nobody leads. Raises what the database raises."""
        if self.is_leader() and self._until - self._clock() > self._seconds / 2:
            return True
        with self._db.read() as session:
            row = session.get(Leader, self.task)
        if row is None:
            self._make_row()
        elif not self._ours(row) and not self._is_free(row):
            self.epoch = None
            return False
        return self._take()

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction of the leader: nobody else can lead until it has ended. Raises `NotLeading`."""
        self.check()
        with self._db.write() as session:
            row = self._lock(session, wait=True)
            if row is None or not self._ours(row):
                self.epoch = None
                raise NotLeading(f"another process leads the task {self.task!r} by now")
            yield session

    def resign(self) -> None:
        """Give up the lead at once, so that another process need not wait. Raises what the database raises."""
        if self.epoch is None:
            return
        with self._db.write() as session:
            row = self._lock(session, wait=True)
            if row is not None and self._ours(row):
                row.until = 0.0
        self.epoch = None

    # ------------------------------------------------------------------------------------------- details

    def _ours(self, row: Leader) -> bool:
        return self.epoch is not None and row.epoch == self.epoch and row.holder == self.holder

    def _is_free(self, row: Leader) -> bool:
        return row.until <= self._clock() or is_gone(row.holder)

    def _take(self) -> bool:
        with self._db.write() as session:
            row = self._lock(session, wait=False)
            if row is None:
                return self.is_leader()  # somebody else is at it
            now = self._clock()
            renewed = self._ours(row)
            if not renewed and not self._is_free(row):
                self.epoch = None
                return False
            if not renewed:
                row.epoch, row.holder = row.epoch + 1, self.holder
            row.until = now + self._seconds
            epoch = row.epoch
        self.epoch, self._until = epoch, now + self._seconds
        crash.point("leader.renewed" if renewed else "leader.taken")
        return True

    def _lock(self, session: Session, *, wait: bool) -> Leader | None:
        if not self._db.is_sqlite:
            # A leader that is stopped within a transaction must not keep its locks: the server ends it then.
            patience = str(max(1, int(1000 * self._seconds / 2)))
            session.execute(select(func.set_config("idle_in_transaction_session_timeout", patience, True)))
        query = select(Leader).where(Leader.task == self.task)
        return session.scalar(query.with_for_update(skip_locked=not wait))

    def _make_row(self) -> None:
        values = {"task": self.task, "holder": "-", "epoch": 0, "until": 0.0}
        try:
            with self._db.write() as session:
                session.execute(insert(Leader).values(values))
        except IntegrityError:
            pass  # another process was quicker


def this_process() -> str:
    """Names a process so that others of the same machine can tell whether it is still there."""
    me = psutil.Process()
    return f"{socket.gethostname()[:40]}/{_pid_namespace()}/{me.pid}/{me.create_time():.2f}"


def is_gone(holder: str) -> bool:
    """Has the process surely ended? False also where nobody here can know."""
    try:
        host, namespace, pid, born = holder.split("/")
        number, moment = int(pid), float(born)
    except ValueError:
        return False
    if (host, namespace) != (socket.gethostname()[:40], _pid_namespace()):
        return False
    try:
        return abs(psutil.Process(number).create_time() - moment) > 1.0
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _pid_namespace() -> str:
    """Process ids mean nothing in another container, even under the same host name."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "-"
