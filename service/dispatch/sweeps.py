"""Keeps a driver behind every sweep that searches, and finishes those whose last job has ended.

A driver is lost like a worker: the cluster says that it is dead, or its lease ran out. What it knew is in the database,
so another one is started under a new epoch.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from sqlalchemy import select

from bcd import crash
from service.db import Database
from service.dispatch.backend import Backend, BackendAway, SweepLaunch
from service.dispatch.leadership import Leadership
from service.models import Sweep, SweepState
from service.settings import Settings
from service.sweeps import repeats
from service.sweeps.events import move

log = logging.getLogger("bcd.dispatch.sweeps")

DEAD_SIGHTINGS = 2  # as of workers: its last call may be under way
# Drivers in a row that added no trial. One that fails by its own fault says so itself; so many that just vanish mean
# that something kills each of them.
MOST_FRUITLESS = 20


class Sweeps:
    def __init__(
        self, settings: Settings, db: Database, backend: Backend, lead: Leadership, *, clock: Callable[[], float]
    ):
        self._settings, self._db, self._backend, self._lead, self._clock = settings, db, backend, lead, clock
        self._launched: set[str] = set()
        self._dead: dict[str, int] = {}
        self._grace_until = clock() + settings.lease_seconds

    def tick(self) -> None:
        """One round. Raises what the database and the lead raise; a cluster that is away is for the next round."""
        with self._db.read() as session:
            query = select(Sweep.id, Sweep.state, Sweep.epoch, Sweep.actor, Sweep.lease_until)
            going = [SweepState.SEARCHING.value, SweepState.REPEATING.value]
            rows = session.execute(query.where(Sweep.state.in_(going)).order_by(Sweep.created_at)).all()
        actors = {row.actor for row in rows}
        self._launched &= actors
        self._dead = {actor: count for actor, count in self._dead.items() if actor in actors}
        for row in rows:
            if row.state == SweepState.REPEATING:
                self._settle(row.id)
                continue
            try:
                self._look_after(row.id, row.epoch, row.actor, row.lease_until)
            except BackendAway as error:
                log.info("sweep %s waits for the cluster: %s", row.id, error)

    def _settle(self, sweep_id: str) -> None:
        with self._db.read() as session:  # many rounds come before the last job has ended
            if not repeats.all_ended(session, sweep_id):
                return
        with self._lead.writing() as session:
            sweep = session.get(Sweep, sweep_id, with_for_update=True)
            if sweep is not None and sweep.state == SweepState.REPEATING and repeats.settle(session, sweep):
                log.info("sweep %s has ended", sweep_id)

    def _look_after(self, sweep_id: str, epoch: int, actor: str | None, lease_until: float) -> None:
        if actor is None:
            self._replace(sweep_id, epoch, None)
            return
        if actor not in self._launched:
            # Started by a dispatcher that may have died before or after it asked: asking again is harmless.
            if self._backend.liveness(actor) == "dead" and lease_until < self._clock():
                self._replace(sweep_id, epoch, "its driver is gone")
            else:
                self._launch(SweepLaunch(sweep_id, epoch, actor))
            return
        liveness = self._backend.liveness(actor)
        self._dead[actor] = self._dead.get(actor, 0) + 1 if liveness == "dead" else 0
        if self._dead[actor] >= DEAD_SIGHTINGS:
            self._replace(sweep_id, epoch, "its driver ended without a last word")
        elif liveness == "unknown" and self._clock() > max(lease_until, self._grace_until):
            self._lead.check()
            self._backend.kill(actor)
            self._replace(sweep_id, epoch, "its driver could not be reached until its lease ran out")

    def _replace(self, sweep_id: str, epoch: int, why: str | None) -> None:
        """A new driver, unless too many in a row did nothing."""
        with self._lead.writing() as session:
            sweep = session.get(Sweep, sweep_id, with_for_update=True)
            if sweep is None or sweep.state != SweepState.SEARCHING or sweep.epoch != epoch:
                return
            if why is not None:
                log.warning("sweep %s: %s", sweep_id, why)
                sweep.fruitless += 1
            if sweep.fruitless >= MOST_FRUITLESS:
                cause = f"{sweep.fruitless} drivers in a row did nothing; of the last one {why}"
                move(session, sweep, SweepState.FAILED, actor="dispatcher", cause=cause)
                return
            sweep.epoch += 1
            sweep.actor = f"driver-{secrets.token_hex(6)}"
            sweep.lease_until = self._clock() + max(self._settings.start_seconds, self._settings.lease_seconds)
            launch = SweepLaunch(sweep.id, sweep.epoch, sweep.actor)
        crash.point("driver.recorded")
        self._launch(launch)

    def _launch(self, launch: SweepLaunch) -> None:
        self._lead.check()
        self._backend.launch_driver(launch)
        crash.point("driver.asked")
        self._launched.add(launch.actor)
