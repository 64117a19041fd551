"""The mirror's thread: which jobs have news, whose turn it is, what to do when MLflow is away or has lost something.

The database remembers for each job how far its copy has come, so MLflow may be away for hours. Jobs take turns, a piece
each; one that MLflow refuses waits longer and longer and holds nobody up. No fault here reaches the dispatcher.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Select, and_, exists, func, or_, select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from service.db import Database
from service.events.service import newest_id
from service.events.tail import tail
from service.mirror.copy import Copier, again
from service.mirror.mlflow_api import Mlflow, MlflowAway, MlflowRefused
from service.mirror.wanted import PARENT
from service.models import GENERATED, TERMINAL, Event, Job
from service.models import Mirror as Row
from service.settings import Settings

log = logging.getLogger("bcd.mirror")

PAUSE, LONG_PAUSE = 1.0, 10.0  # seconds between rounds; the longest after faults
REFUSED_PAUSE, LONGEST_REFUSED = 10.0, 600.0  # seconds for which a job waits that MLflow has refused
GIVE_UP = 3  # jobs in a row that find MLflow silent: then the round ends
LOOK_EVERY = 120.0  # seconds between looks at all jobs; in between, events tell which have news
AUDIT_EVERY, AUDIT_RUNS = 30.0, 100  # seconds between looks at so many runs: are they still there?
_QUIET = "job.metrics"  # by far the most events; what they tell is copied with the next checkpoint


class Mirror:
    """The mirror's thread. `error` is what went wrong last, None while all is well.

    `leading` says whether this process is the one that mirrors: of several dispatchers one does.
    """

    def __init__(
        self,
        settings: Settings,
        db: Database,
        mlflow: Mlflow | None = None,
        *,
        leading: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._settings, self._db, self._leading, self._clock = settings, db, leading, clock
        self._mlflow = mlflow or Mlflow(settings.mlflow_url)
        self._copier = Copier(settings, db, self._mlflow)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mirror", daemon=True)
        self._news: dict[str, None] = {}  # jobs to copy, in order
        self._waits: dict[str, tuple[int, float]] = {}  # failures in a row of a job, and when it is tried again
        self._seen: int | None = None  # the last event that was looked at
        self._look_at = 0.0  # when all jobs are looked at
        self._audit = Audit()
        self.error: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def copy_news(self) -> bool:
        """One round over all jobs with news; whether there was any. Raises `MlflowAway`."""
        self._find_news()
        worked, silent = False, 0
        while due := self._due():
            for job_id in due:
                if self._stop.is_set() or not self._leading():
                    return worked
                worked = True
                silent = self._turn(job_id, silent)
            self._find_news()
        return worked

    def audit(self) -> None:
        """Look whether the next runs are still in MLflow; those that are not are copied again. Raises `MlflowAway`."""
        with self._db.read() as session:
            rows = self._audit.next_rows(session)
        lost = self._audit.lost(self._mlflow, rows)
        if not lost:
            return
        log.warning("MLflow has lost %d runs, of job %s and others: they are copied again", len(lost), lost[0])
        self._copier.forget()
        with self._db.write() as session:
            again(session, lost)
        self._add(lost)

    # -------------------------------------------------------------------------------------------------- turns

    def _find_news(self) -> None:
        """Add the jobs that something has happened to. Mostly one query that finds nothing."""
        with self._db.read() as session:
            if self._seen is None:
                self._seen, self._look_at = newest_id(session), 0.0
            if self._clock() >= self._look_at:
                self._look_at = self._clock() + LOOK_EVERY
                self._add(session.scalars(with_news()))
            told = tail(session, self._seen, now=time.time())
        if told:
            self._seen = told[-1].id
            self._add(one.job_id for one in told if one.job_id is not None and one.type != _QUIET)

    def _add(self, jobs: Iterable[str]) -> None:
        self._news |= dict.fromkeys(jobs)

    def _due(self) -> list[str]:
        now = self._clock()
        return [job for job in self._news if self._waits.get(job, (0, 0.0))[1] <= now]

    def _turn(self, job_id: str, silent: int) -> int:
        """Copy a piece of a job. Returns how many jobs in a row have found MLflow silent. Raises `MlflowAway`."""
        try:
            if not self._copier.copy(job_id):
                self._news.pop(job_id, None)
                self._waits.pop(job_id, None)
            return 0
        except MlflowAway as error:
            self._delay(job_id, PAUSE, LONG_PAUSE)
            self._note(job_id, error)
            if error.everywhere or silent + 1 >= GIVE_UP:
                raise
            return silent + 1
        except (OperationalError, InterfaceError):
            raise  # the database: nobody else would fare better
        except Exception as error:
            self._delay(job_id, REFUSED_PAUSE, LONGEST_REFUSED)
            if not isinstance(error, MlflowRefused | OSError):
                log.exception("job %s cannot be copied", job_id)
            self._note(job_id, error)
            self._recover(job_id)
            return 0

    def _recover(self, job_id: str) -> None:
        """After a refusal: is it because the run, its group's or its experiment is gone? Then it is copied anew."""
        self._copier.forget()
        if self._copier.run_is_gone(job_id):
            with self._db.write() as session:
                again(session, [job_id])
            self._waits.pop(job_id, None)

    def _delay(self, job_id: str, first: float, longest: float) -> None:
        failures = self._waits.get(job_id, (0, 0.0))[0] + 1
        pause = min(longest, first * 2 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0)
        self._waits[job_id] = failures, self._clock() + pause

    def _note(self, job_id: str, error: Exception) -> None:
        self.error = f"job {job_id}: {error}"
        log.warning("copying to MLflow: %s", self.error)
        with self._db.write() as session:
            row = session.get(Row, job_id) or Row(job_id=job_id, done={}, event_id=0, complete=False)
            row.error = str(error)[:4000]
            session.add(row)

    # ------------------------------------------------------------------------------------------------- thread

    def _loop(self) -> None:
        pause, faults, told, away = PAUSE, 0, "", True
        while not self._stop.wait(pause * random.uniform(0.8, 1.0)):
            pause = PAUSE
            try:
                if not self._leading():
                    self._seen, away = None, True
                    continue
                worked = self._round(away)
                away, faults, self.error = False, 0, None if not self._waits else self.error
                if self._audit.behind:
                    pause = PAUSE / 20
                if not worked and told:
                    continue
            except Exception as error:
                faults, away = faults + 1, away or isinstance(error, MlflowAway)
                self.error = str(error) if isinstance(error, MlflowAway) else f"{type(error).__name__}: {error}"
                pause = min(LONG_PAUSE, PAUSE * 2 ** min(faults, 10))
                if not isinstance(error, MlflowAway):
                    log.exception("a round of the mirror failed; it goes on")
            told = self._tell(told)
        self._mlflow.close()

    def _round(self, was_away: bool) -> bool:
        """Copy the news and look after some runs; whether there was anything to do. Raises `MlflowAway`."""
        if was_away:
            # What it has lost meanwhile, if anything, should be found soon.
            self._audit.start_over()
            self._copier.forget()
        self._find_news()
        audits = self._audit.due(self._clock())
        if (self._due() or audits) and not self._mlflow.answers():
            raise MlflowAway("MLflow does not answer")
        worked = self.copy_news() if self._due() else False
        if audits:
            self.audit()
        return worked or audits

    def _tell(self, told: str) -> str:
        """Write `run/mirror.json` when something changed: {"pending": jobs, "error": text or null}."""
        try:
            with self._db.read() as session:
                state = json.dumps({"pending": pending(session), "error": self.error})
            if state != told:
                self._settings.run.mkdir(parents=True, exist_ok=True)
                aside = self._settings.run / "mirror.json.new"
                aside.write_text(state, encoding="utf-8")
                os.replace(aside, self._settings.run / "mirror.json")
        except Exception as error:
            log.warning("cannot write mirror.json: %s", error)
            return told
        return state


class Audit:
    """Goes round and round over all copied jobs, some at a time: are their runs, and those of their groups, there?"""

    def __init__(self) -> None:
        self._place = ""
        self._next_at = 0.0
        self.behind = False  # a round that should be over soon: MLflow was away

    def start_over(self) -> None:
        self._place, self.behind = "", True

    def due(self, now: float) -> bool:
        if not self.behind and now < self._next_at:
            return False
        self._next_at = now + AUDIT_EVERY
        return True

    def next_rows(self, session: Session) -> list[Row]:
        query = select(Row).where(Row.job_id > self._place, Row.run_id.is_not(None)).order_by(Row.job_id)
        rows = list(session.scalars(query.limit(AUDIT_RUNS)))
        if len(rows) < AUDIT_RUNS:
            self._place, self.behind = "", False
        else:
            self._place = rows[-1].job_id
        return rows

    def lost(self, mlflow: Mlflow, rows: list[Row]) -> list[str]:
        """The jobs whose run, or whose group's run, MLflow no longer has. Raises `MlflowAway`."""
        runs: dict[str, set[str]] = {}
        for row in rows:
            group: str | None = row.done.get("tags", {}).get(PARENT)
            runs[row.job_id] = {str(row.run_id)} if group is None else {str(row.run_id), group}
        experiments = {str(row.done["experiment"]) for row in rows if "experiment" in row.done}
        wanted: set[str] = set().union(*runs.values())
        there = mlflow.runs(sorted(experiments), sorted(wanted)) if wanted and experiments else {}
        return [job for job, mine in runs.items() if not mine <= there.keys()]


def with_news() -> Select[Any]:
    """The ids of jobs of which MLflow lacks something, oldest first."""
    later = exists().where(Event.job_id == Job.id, Event.id > Row.event_id, Event.type != _QUIET)
    ended = Job.state.in_([state.value for state in TERMINAL])
    return (
        select(Job.id)
        .outerjoin(Row, Row.job_id == Job.id)
        .where(Job.project_id != GENERATED)  # never among what was trained
        .where(or_(Row.job_id.is_(None), Row.run_id.is_(None), and_(Row.complete.is_(False), ended), later))
        .order_by(Job.created_at)
    )


def pending(session: Session) -> int:
    """How many jobs MLflow does not have completely yet (running ones count)."""
    query = select(func.count()).select_from(Job).outerjoin(Row, Row.job_id == Job.id)
    return (
        session.scalar(
            query.where(Job.project_id != GENERATED).where(or_(Row.job_id.is_(None), Row.complete.is_(False)))
        )
        or 0
    )
