"""Makes the cluster match the database, one tick after another. Knows the database and a backend, nothing of Ray.

Every decision is taken again inside the transaction that applies it, because workers report at the same time, and only
the leading dispatcher's transactions go through. No session is open while the backend is asked. Nothing here keeps a
truth in memory: a dispatcher may die at any line.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from bcd import crash
from bcd.records import RecordBatch
from service import process_log
from service.attempts.outcome import lose
from service.attempts.service import LIVE, apply_records
from service.db import Database
from service.dispatch import waits
from service.dispatch.backend import Backend, BackendAway, Launch, Liveness
from service.dispatch.housekeeping import Housekeeping
from service.dispatch.leadership import Leadership, NotLeading
from service.dispatch.queue import Queue, launch_of, needs_of
from service.dispatch.sweeps import Sweeps
from service.errors import Problem
from service.jobs.states import ACTIVE, move
from service.models import Attempt, Event, Job, JobState
from service.settings import Settings
from workers.outbox import read_records

log = logging.getLogger("bcd.dispatch")

DEAD_SIGHTINGS = 2  # the cluster must say `dead` in so many ticks running: the worker's last record may be under way
SHORTEST_GAP = 5.0  # seconds between two rounds that a busy machine may take
ALIVE_LEASES = 10  # a worker that answers but cannot reach the service gets so many leases before it is replaced


@dataclass(frozen=True)
class Live:
    """An attempt as it was when this tick began."""

    id: str
    job_id: str
    number: int
    epoch: int
    state: str
    actor: str
    launch: Launch
    created_at: float
    lease_until: float
    fetched: bool  # its worker has its ticket
    stopping_since: float | None  # when a user asked to cancel or to pause the job


class Reconciler:
    """One leader's loop body; a new one for each time that it leads. `clock` gives Unix seconds.

    `service_up` tells whether the API answers: workers that could not reach it are not to blame.
    """

    def __init__(
        self,
        settings: Settings,
        db: Database,
        backend: Backend,
        lead: Leadership,
        *,
        spares: int = 0,
        clock: Callable[[], float] = time.time,
        service_up: Callable[[], bool] = lambda: True,
    ):
        self._settings, self._db, self._backend, self._lead, self._clock = settings, db, backend, lead, clock
        self._service_up = service_up
        self._spares = spares
        self._queue = Queue(settings)
        self._house = Housekeeping(settings, db, backend, lead, clock=clock)
        self._sweeps = Sweeps(settings, db, backend, lead, clock=clock)
        # The service may have been down together with the dispatcher: leases count from now at the earliest.
        self._grace_until = self._seen = clock()
        self._give_grace()
        self._launched: set[str] = set()
        self._dead: dict[str, int] = {}

    def tick(self) -> None:
        """One round. Raises `BackendAway` when the cluster gives no answer to what must be asked first, `NotLeading`
        when another dispatcher took over, and what the database raises when it is away.
        """
        live = self._live()
        if self._clock() - self._seen > max(SHORTEST_GAP, self._settings.lease_seconds / 3):
            self._give_grace()  # nobody could renew a lease while the database was away, or while we were stopped
        self._seen = self._clock()
        self._forget({one.id for one in live})
        for one in live:
            try:
                with process_log.about(job_id=one.job_id, attempt_id=one.id):
                    self._look_after(one)
            except (BackendAway, NotLeading, DBAPIError):
                raise
            except Exception:
                log.exception("looking after attempt %s failed; the others go on", one.id)
        self._settle_ownerless()
        self._sweeps.tick()
        self._claim()
        self._house.end_strays()
        self._house.sweep()
        self._backend.warm(self._spares)

    def _give_grace(self) -> None:
        self._grace_until = self._clock() + self._settings.lease_seconds

    # ---------------------------------------------------------------------------------------- live attempts

    def _live(self) -> list[Live]:
        query = (
            select(Attempt, Job.state, Job.spec["resources"])
            .join(Job, Job.id == Attempt.job_id)
            .where(Attempt.state.in_(LIVE))
            .order_by(Attempt.created_at, Attempt.id)
        )
        with self._db.read() as session:
            rows = session.execute(query).all()
            stopping = [a.job_id for a, state, _ in rows if state in (JobState.CANCELLING, JobState.PAUSING)]
            asked = select(Event.job_id, func.max(Event.time)).where(
                Event.job_id.in_(stopping), Event.type == "job.state"
            )
            since = dict(session.execute(asked.group_by(Event.job_id)).all()) if stopping else {}
        return [
            Live(
                id=a.id, job_id=a.job_id, number=a.number, epoch=a.epoch, state=a.state, actor=a.actor,
                launch=launch_of(a, needs_of(resources).processes), created_at=a.created_at,
                lease_until=a.lease_until, fetched=a.process is not None, stopping_since=since.get(a.job_id),
            )
            for a, _, resources in rows
        ]  # fmt: skip

    def _forget(self, live: set[str]) -> None:
        self._launched &= live
        self._dead = {key: count for key, count in self._dead.items() if key in live}

    def _look_after(self, one: Live) -> None:
        unseen = one.state == "starting" and not one.fetched and one.id not in self._launched
        if unseen and one.stopping_since is None:
            # Claimed by a dispatcher that may have died before or after the launch: launching again is harmless.
            self._launch(one.launch)
            return
        liveness = self._backend.liveness(one.actor)
        self._dead[one.id] = self._dead.get(one.id, 0) + 1 if liveness == "dead" else 0
        why = self._why_lost(one, liveness)
        if why is None and one.stopping_since is not None:
            why = self._why_ended_by_force(one.stopping_since)
        if why is not None:
            self._end(one, why, dead=liveness == "dead")

    def _why_lost(self, one: Live, liveness: Liveness) -> str | None:
        if self._dead[one.id] >= DEAD_SIGHTINGS:
            return "its worker process ended without a last word"
        late = self._clock() - max(one.lease_until, self._grace_until)
        if late <= 0 or liveness == "dead":
            return None
        if one.state == "starting" and not one.fetched and one.stopping_since is None:
            return self._why_not_started(one)
        if liveness == "unknown":
            return "its worker could not be reached until its lease ran out"
        if late > ALIVE_LEASES * self._settings.lease_seconds and self._reachable():
            return "its worker runs but could not reach the service for a long time"
        return None

    def _why_not_started(self, one: Live) -> str | None:
        """Nobody fetched the ticket in time: launch once more, then give this attempt up."""
        if not self._reachable():
            return None
        patience = max(self._settings.start_seconds, self._settings.lease_seconds)
        if one.lease_until > one.created_at + 1.5 * patience:
            return f"its worker did not start in {2 * patience:.0f} s"
        with self._lead.writing() as session:
            attempt = session.get(Attempt, one.id, with_for_update=True)
            if attempt is not None and attempt.lease_until == one.lease_until and attempt.process is None:
                attempt.lease_until = max(self._clock(), one.created_at + patience) + patience
        log.warning("the worker of attempt %s did not start in %.0f s; asking for it again", one.id, patience)
        self._launch(one.launch)
        return None

    def _reachable(self) -> bool:
        """Does the service answer? If not, every worker gets a lease to come back once it does."""
        if self._service_up():
            return True
        self._give_grace()
        return False

    def _why_ended_by_force(self, since: float) -> str | None:
        return "it did not stop in time" if self._clock() - since > self._settings.stop_seconds else None

    def _launch(self, launch: Launch) -> None:
        self._lead.check()
        self._backend.launch(launch)
        crash.point("launch.asked")
        self._launched.add(launch.attempt_id)

    # -------------------------------------------------------------------------------------------- the lost

    def _end(self, one: Live, why: str, *, dead: bool) -> None:
        """Close an attempt whose worker is gone or must go; its job is queued again, cancelled or given up."""
        if not dead:
            if self._heard_of(one):
                return
            self._lead.check()
            self._backend.kill(one.actor)
            crash.point("lost.killed")
        self._replay(one)
        with self._lead.writing() as session:
            job = session.get(Job, one.job_id, with_for_update=True)
            attempt = session.get(Attempt, one.id, with_for_update=True)
            if job is None or attempt is None or attempt.state not in LIVE:
                return  # its own last record came first
            lose(session, self._settings, attempt, job, why, now=self._clock())
            session.flush()
            crash.point("lost.written")
        crash.point("lost.committed")
        log.warning("attempt %s (number %d of job %s) is lost: %s", one.id, one.number, one.job_id, why)
        shutil.rmtree(self._settings.work / one.id, ignore_errors=True)

    def _heard_of(self, one: Live) -> bool:
        """Did a worker that seemed lost extend its lease since this tick began?"""
        with self._db.read() as session:
            lease = session.scalar(select(Attempt.lease_until).where(Attempt.id == one.id))
        return one.stopping_since is None and lease != one.lease_until

    def _replay(self, one: Live) -> None:
        """Store what a dead worker on this machine had written down but not delivered, its result above all."""
        with self._db.read() as session:
            acked = session.scalar(select(Attempt.acked_seq).where(Attempt.id == one.id)) or 0
        records = read_records(self._settings.work / one.id / "outbox.jsonl", above=acked)
        try:
            while some := list(islice(records, 500)):
                with self._lead.writing() as session:
                    apply_records(session, self._settings, one.id, RecordBatch(epoch=one.epoch, records=some))
                crash.point("replay.half")
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
        with self._lead.writing() as session:
            for job in session.scalars(query.with_for_update(skip_locked=True)):
                to, cause = {
                    JobState.CANCELLING.value: (JobState.CANCELLED, "cancelled"),
                    JobState.PAUSING.value: (JobState.PAUSED, "paused"),
                }.get(job.state, (JobState.QUEUED, "no attempt was running"))
                move(session, job, to, actor="dispatcher", cause=cause)

    # -------------------------------------------------------------------------------------------- new ones

    def _claim(self) -> None:
        waiting = [JobState.QUEUED.value, JobState.WAITING.value]
        with self._db.read() as session:
            anything = session.scalar(select(Job.id).where(Job.state.in_(waiting)).limit(1)) is not None
        try:
            nodes = self._house.nodes()
        except BackendAway:
            if anything:
                self._tell_all("the cluster does not answer")
            raise
        if not anything:
            return
        with self._db.read() as session:
            if not self._queue.draft(session, nodes, self._backend.pick_actor, now=self._clock()):
                return
        with self._lead.writing() as session:
            launches = self._queue.claim(session, nodes, self._backend.pick_actor, now=self._clock())
        if launches:
            crash.point("claim.committed")
        for launch in launches:
            self._launch(launch)

    def _tell_all(self, reason: str) -> None:
        with self._db.read() as session:
            if waits.all_told(session, reason):
                return
        with self._lead.writing() as session:
            waits.write_to_all(session, reason)
