"""Makes the cluster match the database, one tick after another. Knows the database and a backend, nothing of Ray.

Every decision is taken again inside the transaction that applies it, because workers report at the same time. No
session is open while the backend is asked. Nothing here keeps a truth in memory: a dispatcher may die at any line.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sqlalchemy import select

from bcd.records import RecordBatch
from service import storage
from service.attempts.outcome import lose
from service.attempts.service import LIVE, apply_records
from service.db import Database
from service.dispatch.backend import Backend, BackendAway, Launch, Liveness
from service.dispatch.placement import claim
from service.errors import Problem
from service.jobs.states import ACTIVE, move
from service.models import Attempt, Job, JobState
from service.settings import Settings
from workers.outbox import read_records

log = logging.getLogger("bcd.dispatch")

STOP_PATIENCE = 60.0  # seconds in which a worker may write a checkpoint and stop after it was asked to
DEAD_SIGHTINGS = 2  # the cluster must say `dead` in so many ticks running: the worker's last record may be under way
ALIVE_LEASES = 10  # a worker that answers but cannot reach the service gets so many leases before it is replaced
SWEEP_EVERY, WORK_KEPT = 60.0, 3600.0  # seconds; what ended attempts leave is kept a while for a look
STRAY_PATIENCE = 60.0  # seconds in which a worker whose attempt has ended may deliver and exit


@dataclass(frozen=True)
class Live:
    """An attempt as it was when this tick began."""

    id: str
    job_id: str
    number: int
    epoch: int
    state: str
    actor: str
    gpus: float
    lease_until: float
    stopping: bool  # a user asked to cancel or to pause the job


class Reconciler:
    """One dispatcher's loop body. `clock` gives Unix seconds."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        backend: Backend,
        *,
        spares: int = 0,
        clock: Callable[[], float] = time.time,
    ):
        self._settings, self._db, self._backend, self._clock = settings, db, backend, clock
        self._spares = spares
        # The service may have been down together with the dispatcher: leases count from now at the earliest.
        self._grace_until = clock() + settings.lease_seconds
        self._launched: set[str] = set()
        self._dead: dict[str, int] = {}
        self._stopping: dict[str, float] = {}
        self._strays: dict[str, float] = {}
        self._next_sweep = 0.0
        self._sweeper: threading.Thread | None = None

    def tick(self) -> None:
        """One round. Raises `BackendAway` when the cluster gives no answer to what must be asked first."""
        live = self._live()
        self._forget({one.id for one in live})
        for one in live:
            try:
                self._look_after(one)
            except BackendAway:
                raise
            except Exception:
                log.exception("looking after attempt %s failed; the others go on", one.id)
        self._settle_ownerless()
        self._claim()
        self._end_strays()
        self._sweep()
        self._backend.warm(self._spares)

    # ---------------------------------------------------------------------------------------- live attempts

    def _live(self) -> list[Live]:
        query = select(Attempt, Job.state).join(Job, Job.id == Attempt.job_id).where(Attempt.state.in_(LIVE))
        with self._db.read() as session:
            return [
                Live(
                    id=a.id, job_id=a.job_id, number=a.number, epoch=a.epoch, state=a.state, actor=a.actor,
                    gpus=a.gpus, lease_until=a.lease_until,
                    stopping=job_state in (JobState.CANCELLING, JobState.PAUSING),
                )
                for a, job_state in session.execute(query.order_by(Attempt.created_at))
            ]  # fmt: skip

    def _forget(self, live: set[str]) -> None:
        self._launched &= live
        self._dead = {key: count for key, count in self._dead.items() if key in live}
        self._stopping = {key: since for key, since in self._stopping.items() if key in live}

    def _look_after(self, one: Live) -> None:
        if one.state == "starting" and one.id not in self._launched and not one.stopping:
            # Claimed by a dispatcher that may have died before or after the launch: launching again is harmless.
            self._launch(Launch(one.id, one.epoch, one.actor, one.gpus))
            return
        liveness = self._backend.liveness(one.actor)
        self._dead[one.id] = self._dead.get(one.id, 0) + 1 if liveness == "dead" else 0
        why = self._why_lost(one, liveness)
        if why is None and one.stopping:
            why = self._why_ended_by_force(one)
        if why is not None:
            self._end(one, why, dead=liveness == "dead")

    def _why_lost(self, one: Live, liveness: Liveness) -> str | None:
        if self._dead[one.id] >= DEAD_SIGHTINGS:
            return "its worker process ended without a last word"
        late = self._clock() - max(one.lease_until, self._grace_until)
        if liveness == "unknown" and late > 0:
            return "its worker could not be reached until its lease ran out"
        if liveness == "alive" and late > ALIVE_LEASES * self._settings.lease_seconds:
            return "its worker runs but could not reach the service for a long time"
        return None

    def _why_ended_by_force(self, one: Live) -> str | None:
        since = self._stopping.setdefault(one.id, self._clock())
        return "it did not stop in time" if self._clock() - since > STOP_PATIENCE else None

    def _launch(self, launch: Launch) -> None:
        self._backend.launch(launch)
        self._launched.add(launch.attempt_id)

    # -------------------------------------------------------------------------------------------- the lost

    def _end(self, one: Live, why: str, *, dead: bool) -> None:
        """Close an attempt whose worker is gone or must go; its job is queued again, cancelled or given up."""
        if not dead:
            if self._heard_of(one):
                return
            self._backend.kill(one.actor)
        self._replay(one)
        with self._db.write() as session:
            job = session.get(Job, one.job_id, with_for_update=True)
            attempt = session.get(Attempt, one.id, with_for_update=True)
            if job is None or attempt is None or attempt.state not in LIVE:
                return  # its own last record came first
            lose(session, self._settings, attempt, job, why, now=self._clock())
        log.warning("attempt %s (number %d of job %s) is lost: %s", one.id, one.number, one.job_id, why)
        shutil.rmtree(self._settings.work / one.id, ignore_errors=True)

    def _heard_of(self, one: Live) -> bool:
        """Did a worker that seemed lost extend its lease since this tick began?"""
        with self._db.read() as session:
            lease = session.scalar(select(Attempt.lease_until).where(Attempt.id == one.id))
        return not one.stopping and lease != one.lease_until

    def _replay(self, one: Live) -> None:
        """Store what a dead worker on this machine had written down but not delivered, its result above all."""
        with self._db.read() as session:
            acked = session.scalar(select(Attempt.acked_seq).where(Attempt.id == one.id)) or 0
        records = read_records(self._settings.work / one.id / "outbox.jsonl", above=acked)
        try:
            while some := list(islice(records, 500)):
                with self._db.write() as session:
                    apply_records(session, self._settings, one.id, RecordBatch(epoch=one.epoch, records=some))
        except Problem as problem:
            log.info("the outbox of attempt %s was not taken over: %s", one.id, problem.detail)

    def _settle_ownerless(self) -> None:
        """Jobs that count as running but have no live attempt: nobody else would ever move them."""
        running = [state.value for state in ACTIVE]
        owned = select(Attempt.id).where(Attempt.job_id == Job.id, Attempt.state.in_(LIVE)).exists()
        query = select(Job).where(Job.state.in_(running), ~owned)
        with self._db.read() as session:
            if session.scalars(query.limit(1)).first() is None:
                return
        with self._db.write() as session:
            for job in session.scalars(query.with_for_update(skip_locked=True)):
                to, cause = {
                    JobState.CANCELLING.value: (JobState.CANCELLED, "cancelled"),
                    JobState.PAUSING.value: (JobState.PAUSED, "paused"),
                }.get(job.state, (JobState.QUEUED, "no attempt was running"))
                move(session, job, to, actor="dispatcher", cause=cause)

    # -------------------------------------------------------------------------------------------- new ones

    def _claim(self) -> None:
        while self._anything_queued():
            capacity = self._backend.capacity()
            with self._db.write() as session:
                launch = claim(session, self._settings, capacity, self._backend.pick_actor, now=self._clock())
            if launch is None:
                return
            self._launch(launch)

    def _anything_queued(self) -> bool:
        with self._db.read() as session:
            return session.scalar(select(Job.id).where(Job.state == JobState.QUEUED.value).limit(1)) is not None

    def _end_strays(self) -> None:
        """Workers of ended attempts exit by themselves; one that hangs must not hold memory for ever."""
        with self._db.read() as session:
            known = set(session.scalars(select(Attempt.actor).where(Attempt.state.in_(LIVE))))
        now = self._clock()
        strays = self._backend.strays(known)
        self._strays = {actor: self._strays.get(actor, now) for actor in strays}
        for actor, since in self._strays.items():
            if now - since > STRAY_PATIENCE:
                log.warning("worker %s belongs to no live attempt and does not exit; ending it", actor)
                self._backend.kill(actor)

    def _sweep(self) -> None:
        """Remove what nobody will ask for again: work folders that ended attempts left behind, of which nothing would
        be accepted any more, and half-written files of workers that died while they stored something.
        """
        if self._clock() < self._next_sweep:
            return
        self._next_sweep = self._clock() + SWEEP_EVERY
        with self._db.read() as session:
            live = set(session.scalars(select(Attempt.id).where(Attempt.state.in_(LIVE))))
        for folder in self._old(self._settings.work):
            if folder.name not in live:
                shutil.rmtree(folder, ignore_errors=True)
        if self._sweeper is None or not self._sweeper.is_alive():
            # On a thread of its own: storage that hangs must not hold up the round.
            before = self._clock() - WORK_KEPT
            self._sweeper = threading.Thread(target=storage.sweep, args=(self._settings, before), daemon=True)
            self._sweeper.start()

    def _old(self, parent: Path) -> Iterator[Path]:
        for path in parent.iterdir() if parent.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # its worker was quicker
                if self._clock() - path.stat().st_mtime > WORK_KEPT:
                    yield path
