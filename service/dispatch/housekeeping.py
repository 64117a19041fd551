"""What the leading dispatcher keeps in order beside the jobs: the table of nodes, workers and files left behind."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import storage
from service.attempts.service import LIVE
from service.db import Database
from service.dispatch.backend import Backend, NodeInfo
from service.dispatch.leadership import Leadership
from service.models import Attempt, Node, Sweep, SweepState
from service.settings import Settings

log = logging.getLogger("bcd.dispatch")

NODES_EVERY = 5.0  # seconds between two looks at the cluster's machines
NODES_KEPT = 7 * 86400.0  # seconds for which a job waits for a machine that went away
SWEEP_EVERY, WORK_KEPT = 60.0, 3600.0  # seconds; what ended attempts leave is kept a while for a look
STRAY_PATIENCE = 60.0  # seconds in which a worker whose attempt has ended may deliver and exit


class Housekeeping:
    def __init__(
        self, settings: Settings, db: Database, backend: Backend, lead: Leadership, *, clock: Callable[[], float]
    ):
        self._settings, self._db, self._backend, self._lead, self._clock = settings, db, backend, lead, clock
        self._nodes: Sequence[NodeInfo] = ()
        self._nodes_at = self._next_sweep = float("-inf")
        self._strays: dict[str, float] = {}
        self._sweeper: threading.Thread | None = None

    def nodes(self) -> Sequence[NodeInfo]:
        """The cluster's machines, which the table then shows. Raises `BackendAway`."""
        now, seen = self._clock(), self._backend.nodes()
        if seen != self._nodes or now - self._nodes_at >= NODES_EVERY:
            with self._lead.writing() as session:
                _record(session, seen, now)
            self._nodes, self._nodes_at = seen, now
        return seen

    def end_strays(self) -> None:
        """Workers of ended attempts exit by themselves; one that hangs must not hold memory for ever."""
        with self._db.read() as session:
            known = set(session.scalars(select(Attempt.actor).where(Attempt.state.in_(LIVE))))
            driven = select(Sweep.actor).where(Sweep.state == SweepState.SEARCHING.value, Sweep.actor.is_not(None))
            known |= {actor for actor in session.scalars(driven) if actor}
        now = self._clock()
        strays = self._backend.strays(known)
        self._strays = {actor: self._strays.get(actor, now) for actor in strays}
        for actor, since in self._strays.items():
            if now - since > STRAY_PATIENCE:
                log.warning("worker %s belongs to no live attempt and does not exit; ending it", actor)
                self._lead.check()
                self._backend.kill(actor)

    def sweep(self) -> None:
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


def _record(session: Session, seen: Sequence[NodeInfo], now: float) -> None:
    """Make the table say what was seen. A machine that came back (under its name, with another id) is one again."""
    rows = {row.id: row for row in session.scalars(select(Node))}
    there = {node.id for node in seen if node.alive}
    back = {node.name for node in seen if node.alive}
    for node in seen:
        row = rows.get(node.id)
        if row is None:
            if not node.alive:
                continue
            row = rows[node.id] = Node(id=node.id)
            session.add(row)
        if node.alive:
            row.name, row.cpus, row.gpus, row.memory = node.name, node.cpus, node.gpus, node.memory
            row.data, row.seen_at = {"spares": node.spares}, now
    for row in rows.values():
        row.alive = row.id in there
        if not row.alive and (row.name in back or now - row.seen_at > NODES_KEPT):
            session.delete(row)
