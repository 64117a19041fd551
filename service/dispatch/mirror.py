"""Copies jobs from the database to MLflow: at its own pace, in its own thread, again from where it stopped.

MLflow may be away for hours, or have lost everything: the database remembers for each job how far the copy has come.
No session is open while MLflow is asked, and no fault here reaches the dispatcher.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from bcd.records import StoredObject
from bcd.storage import CorruptObject
from service import storage
from service.db import Database
from service.dispatch.mlflow_api import NOT_THERE, Mlflow, MlflowAway, MlflowRefused
from service.models import TERMINAL, Artifact, Evaluation, Event, Job, JobState, Point, Series
from service.models import Mirror as Row
from service.settings import Settings

log = logging.getLogger("bcd.dispatch.mirror")

EXPERIMENT = "bcd"
JOB_TAG = "bcd.job_id"
ROWS = 5000  # metric rows copied at a time
LAST_STEP = 2**31 - 1  # what the column holds
PAUSE, LONG_PAUSE = 1.0, 10.0  # seconds between rounds; after a fault
STATUS = {
    JobState.WAITING: "SCHEDULED", JobState.QUEUED: "SCHEDULED", JobState.STARTING: "RUNNING",
    JobState.RUNNING: "RUNNING", JobState.PAUSING: "RUNNING", JobState.PAUSED: "SCHEDULED",
    JobState.CANCELLING: "RUNNING", JobState.SUCCEEDED: "FINISHED", JobState.FAILED: "FAILED",
    JobState.CANCELLED: "KILLED",
}  # fmt: skip


@dataclass
class _Work:
    """What is to be copied for one job, read in one session."""

    job: Job
    row: Row
    newest_event: int
    metrics: list[tuple[str, int, float, float]]
    through: int  # metrics of all steps up to this one are then copied
    more: bool
    files: list[Artifact]
    final: Evaluation | None

    @property
    def ended(self) -> bool:
        return self.job.state in TERMINAL


class Mirror:
    """The mirror's thread. `error` is what went wrong last, None while all is well."""

    def __init__(self, settings: Settings, db: Database, mlflow: Mlflow | None = None):
        self._settings, self._db = settings, db
        self._mlflow = mlflow or Mlflow(settings.mlflow_url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mirror", daemon=True)
        self._retry_at: dict[str, float] = {}
        self.error: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        self._stop.set()
        self._thread.join(timeout)

    def copy_news(self) -> None:
        """One round over all jobs that MLflow does not have completely. Raises `MlflowAway`."""
        with self._db.read() as session:
            jobs = list(session.scalars(_incomplete().order_by(Job.created_at)))
        if not jobs:
            return
        experiment = self._mlflow.experiment(EXPERIMENT)
        for job_id in jobs:
            if self._stop.is_set():
                return
            if self._retry_at.get(job_id, 0.0) > time.monotonic():
                continue
            try:
                while self._copy(experiment, job_id):
                    pass
                self._retry_at.pop(job_id, None)
            except (MlflowRefused, OSError) as error:
                self._note_fault(job_id, error)

    # ---------------------------------------------------------------------------------------------- one job

    def _copy(self, experiment: str, job_id: str) -> bool:
        """Copy what is new of one job; True when there is more of it."""
        with self._db.read() as session:
            work = _read(session, job_id)
            session.expunge_all()
        if work is None:
            return False
        run = work.row.run_id or self._begin(experiment, work)
        done = dict(work.row.done)
        if work.metrics:
            self._mlflow.log_metrics(run, work.metrics)
        done["through"] = work.through
        if done.get("state") != work.job.state:
            self._show_state(run, work)
            done["state"] = work.job.state
        complete = False
        if work.ended and not work.more:
            self._save(job_id, run, done, work.row.event_id, complete=False)
            self._finish(experiment, run, work, done)
            complete = True
        event_id = work.row.event_id if work.more else work.newest_event
        self._save(job_id, run, done, event_id, complete=complete)
        return work.more

    def _begin(self, experiment: str, work: _Work) -> str:
        job = work.job
        run = self._mlflow.find_run(experiment, JOB_TAG, job.id)
        if run is None:
            run = self._mlflow.create_run(experiment, job.name, job.created_at, {JOB_TAG: job.id})
        spec = job.spec
        tags = {
            "bcd.seed": str(spec.get("seed", 0)),
            "bcd.methods": ",".join(method["type"] for method in spec.get("methods", [])) or "none",
        }
        teacher = spec.get("teacher") or {}
        if teacher:
            tags["bcd.teacher"] = str(teacher.get("job") or teacher.get("path"))
        self._mlflow.set_tags(run, tags)
        self._mlflow.log_params(run, flatten(spec))
        self._save(job.id, run, {}, 0, complete=False)
        return run

    def _show_state(self, run: str, work: _Work) -> None:
        tags = {"bcd.state": work.job.state}
        if work.job.cause:
            tags["bcd.cause"] = work.job.cause[:4000]
        self._mlflow.set_tags(run, tags)
        self._mlflow.update_run(run, STATUS[JobState(work.job.state)], work.job.ended_at)

    def _finish(self, experiment: str, run: str, work: _Work, done: dict[str, Any]) -> None:
        if work.final is not None:
            final = work.final
            scores = {key: value for key, value in final.results.items() if isinstance(value, int | float)}
            rows = [(f"final/{key}", final.step, float(value), final.created_at) for key, value in scores.items()]
            self._mlflow.log_metrics(run, rows)
        sent = dict(done.get("files", {}))
        for artifact in work.files:
            if sent.get(artifact.name) == artifact.sha256:
                continue
            try:
                self._upload(experiment, run, artifact)
            except CorruptObject as error:
                log.warning("job %s: %s cannot be copied: %s", work.job.id, artifact.name, error)
                continue
            sent[artifact.name] = artifact.sha256
            done["files"] = sent
        if work.job.state == JobState.SUCCEEDED and any(artifact.type == "result" for artifact in work.files):
            tags = {JOB_TAG: work.job.id}
            done["version"] = self._mlflow.register(f"bcd-{work.job.name}", run, "result", tags)

    def _upload(self, experiment: str, run: str, artifact: Artifact) -> None:
        self._settings.work.mkdir(parents=True, exist_ok=True)  # there the dispatcher removes what a crash leaves
        with tempfile.TemporaryDirectory(prefix="mirror-", dir=self._settings.work) as aside:
            stored = StoredObject(key=artifact.key, sha256=artifact.sha256, size=artifact.size, step=artifact.step)
            file = storage.of(self._settings).get(stored, into=Path(aside))
            self._mlflow.upload(experiment, run, f"{artifact.type}/{artifact.name}", file)

    def _save(self, job_id: str, run: str | None, done: dict[str, Any], event_id: int, *, complete: bool) -> None:
        with self._db.write() as session:
            row = session.get(Row, job_id) or Row(job_id=job_id)
            row.run_id, row.done, row.event_id, row.complete, row.error = run, dict(done), event_id, complete, None
            session.add(row)

    def _note_fault(self, job_id: str, error: Exception) -> None:
        self.error = f"job {job_id}: {error}"
        self._retry_at[job_id] = time.monotonic() + LONG_PAUSE
        log.warning("copying to MLflow: %s", self.error)
        # A run that is gone (MLflow's own database was removed, or somebody deleted the run) is copied from scratch.
        gone = isinstance(error, MlflowRefused) and error.code == NOT_THERE
        with self._db.write() as session:
            row = session.get(Row, job_id) or Row(job_id=job_id, done={}, event_id=0, complete=False)
            row.error = str(error)[:4000]
            if gone:
                row.run_id, row.done, row.event_id = None, {}, 0
            session.add(row)

    # ---------------------------------------------------------------------------------------------- thread

    def _loop(self) -> None:
        pause, told = PAUSE, ""
        while not self._stop.wait(pause):
            pause = PAUSE
            try:
                if self._mlflow.answers():
                    self.error = None
                    self.copy_news()
                else:
                    self.error, pause = "MLflow does not answer", 2 * PAUSE
            except MlflowAway as error:
                self.error, pause = str(error), LONG_PAUSE / 2
            except Exception as error:
                self.error, pause = f"{type(error).__name__}: {error}", LONG_PAUSE
                log.exception("a round of the mirror failed; it goes on")
            told = self._tell(told)
        self._mlflow.close()

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


def pending(session: Session) -> int:
    """How many jobs MLflow does not have completely yet (running ones count)."""
    return int(session.scalar(select(func.count()).select_from(_incomplete().subquery())) or 0)


def flatten(spec: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """A spec as flat parameters: `schedule.optimizer.lr` -> "0.001". Lists of plain values stay in one text."""
    flat: dict[str, str] = {}
    for key, value in spec.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
            flat |= flatten({str(i): item for i, item in enumerate(value)}, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return {key: value for key, value in flat.items() if value != ""}


def _incomplete() -> Any:
    return select(Job.id).outerjoin(Row, Row.job_id == Job.id).where(or_(Row.job_id.is_(None), Row.complete.is_(False)))


def _read(session: Session, job_id: str) -> _Work | None:
    """The news of a job, None if there is none."""
    job = session.get(Job, job_id)
    assert job is not None
    row = session.get(Row, job_id) or Row(job_id=job_id, run_id=None, event_id=0, done={}, complete=False)
    newest = session.scalar(select(func.max(Event.id)).where(Event.job_id == job_id)) or 0
    ended = job.state in TERMINAL
    if row.run_id is not None and newest == row.event_id and not ended:
        return None
    files = list(session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.step)))
    checkpoints = [artifact for artifact in files if artifact.type == "checkpoint"]
    # MLflow cannot change a metric. What a retry may do again, the steps since the newest checkpoint, waits.
    settled = LAST_STEP if ended else (checkpoints[-1].step - 1 if checkpoints else -1)
    through = int(row.done.get("through", -1))
    rows, through, more = _metrics(session, job_id, through, settled)
    final = select(Evaluation).where(Evaluation.job_id == job_id, Evaluation.name == "final")
    results = [artifact for artifact in files if artifact.type == "result"]
    return _Work(job, row, newest, rows, through, more, results + checkpoints[-1:], session.scalar(final))


def _metrics(
    session: Session, job_id: str, through: int, settled: int
) -> tuple[list[tuple[str, int, float, float]], int, bool]:
    """Up to ROWS rows of whole steps in (through, settled]; the last step they cover; whether there are more."""
    query = (
        select(Series.key, Point.step, Point.value, Point.time)
        .join(Point, Point.series_id == Series.id)
        .where(Series.job_id == job_id)
    )
    news = query.where(Point.step > through, Point.step <= settled).order_by(Point.step).limit(ROWS + 1)
    rows = [(key, step, value, when) for key, step, value, when in session.execute(news)]
    if len(rows) <= ROWS:
        return rows, rows[-1][1] if rows else through, False
    last = rows[-1][1]
    whole = [row for row in rows if row[1] < last]
    if not whole:  # one step with more rows than that
        whole = [
            (key, step, value, when) for key, step, value, when in session.execute(query.where(Point.step == last))
        ]
    return whole, whole[-1][1], True
