"""Copies one job to MLflow, a piece at a time: its run, metrics, files, and the version of its model.

MLflow cannot change a metric once it has it. So what a retry may do again waits for the newest checkpoint, and a job
that has nevertheless done steps again which were copied (its newest checkpoint was damaged) gets a new run.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from bcd.records import StoredObject
from bcd.storage import CorruptObject
from service import storage
from service.db import Database
from service.mirror import wanted
from service.mirror.mlflow_api import Metric, Mlflow
from service.mirror.models import Models
from service.models import TERMINAL, Artifact, Evaluation, Event, Job, JobState, Point, Series
from service.models import Mirror as Row
from service.settings import Settings

log = logging.getLogger("bcd.mirror")

ROWS = 5000  # metric rows copied at a time
LARGE = 10_000_000  # bytes of a file that is not sent twice only because something behind it failed
NEVER = 2**31 - 1  # a step that no run reaches


@dataclass
class Work:
    """What is to be copied of one job now, read in one session."""

    job: Job
    row: Row
    newest_event: int
    tags: dict[str, str]
    metrics: list[Metric]
    through: int  # metrics of all steps up to this one are then copied
    attempt: int  # the newest attempt that any of them is from
    more: bool
    rewritten: bool  # MLflow has values that a later attempt has replaced
    group: tuple[str, float | None] | None  # status of its group
    files: list[Artifact] = field(default_factory=list)
    final: Evaluation | None = None

    @property
    def ended(self) -> bool:
        return self.job.state in TERMINAL


class Copier:
    """Brings jobs to MLflow. Holds no session open while MLflow is asked."""

    def __init__(self, settings: Settings, db: Database, mlflow: Mlflow):
        self._settings, self._db, self._mlflow = settings, db, mlflow
        self._models = Models(db, mlflow)
        self._experiments: dict[str, str] = {}  # by project
        self._groups: dict[tuple[str, str], tuple[str, str]] = {}  # by project and name: run and status

    def forget(self) -> None:
        """What is remembered of MLflow may be wrong: ask again."""
        self._experiments.clear()
        self._groups.clear()
        self._models.forget()

    def experiment(self, project: str) -> str:
        if project not in self._experiments:
            self._experiments[project] = self._mlflow.experiment(wanted.experiment_of(project))
        return self._experiments[project]

    def copy(self, job_id: str) -> bool:
        """Copy a piece of what is new of a job; True when there is more of it.

        Raises `MlflowAway`, `MlflowRefused`, and what storage raises.
        """
        with self._db.read() as session:
            work = read(session, self._settings, job_id)
            session.expunge_all()
        if work.row.run_id is not None and work.rewritten:
            log.warning("job %s did steps again that MLflow has already: its run is copied anew", job_id)
            self._mlflow.delete_run(work.row.run_id)
            with self._db.write() as session:
                again(session, [job_id])
            return True
        done = dict(work.row.done)
        run = work.row.run_id or self._begin(work, done)
        done.setdefault("experiment", self.experiment(work.job.project_id))
        if work.metrics:
            # Before it is sent: when the answer is lost, MLflow may have it all the same.
            done["copied"] = [*done.get("copied", []), [work.through, work.attempt]]
            self._save(work, run, done, work.row.event_id)
        self._bring_up_to_date(work, run, done)
        done["through"] = work.through
        if work.more:
            self._save(work, run, done, work.row.event_id)
            return True
        lost: list[str] = []
        if work.ended and not work.row.complete:
            lost = self._upload(work, run, done)
            self._register(work, run, done)
        self._save(work, run, done, work.newest_event, complete=work.ended, error="; ".join(lost) or None)
        return False

    def run_is_gone(self, job_id: str) -> bool:
        """Whether MLflow no longer has the run that the database remembers."""
        with self._db.read() as session:
            run = session.scalar(select(Row.run_id).where(Row.job_id == job_id))
        found = self._mlflow.run(run) if run is not None else None
        return run is not None and (found is None or not found.active)

    # ------------------------------------------------------------------------------------------------ pieces

    def _begin(self, work: Work, done: dict[str, Any]) -> str:
        """The job's run: a new one, or one that was made when the answer got lost."""
        job, experiment = work.job, self.experiment(work.job.project_id)
        found = self._mlflow.find_runs([experiment], wanted.JOB, job.id)
        for old in found:
            if old.metric_keys:  # of a time that the database does not remember
                self._mlflow.delete_run(old.id)
        fresh = [run.id for run in found if not run.metric_keys]
        for twin in fresh[1:]:
            self._mlflow.delete_run(twin)
        tags = {wanted.JOB: job.id, "mlflow.note.content": f"[{job.id} in bcd]({work.tags['bcd.url']})"}
        run = fresh[0] if fresh else self._mlflow.create_run(experiment, job.name, job.created_at, tags)
        before = bool(found) or bool(done.get("before"))
        done.clear()
        done |= {"experiment": experiment, "before": before}
        self._save(work, run, done, 0)
        return run

    def _bring_up_to_date(self, work: Work, run: str, done: dict[str, Any]) -> None:
        tags = dict(work.tags)
        if work.group is not None and work.job.group is not None:
            tags[wanted.PARENT] = self._parent(work.job.project_id, work.job.group, work.group, work.job.created_at)
        known: dict[str, str] = done.get("tags", {})
        changed = {key: value for key, value in tags.items() if known.get(key) != value}
        final = [] if done.get("final") else wanted.final_metrics(work.final)
        params = {} if done.get("params") else wanted.params_of(work.job)
        self._mlflow.log(run, metrics=[*work.metrics, *final], params=params, tags=changed)
        for key in known.keys() - tags.keys():
            self._mlflow.delete_tag(run, key)
        done |= {"tags": tags, "params": True, "final": bool(final) or bool(done.get("final"))}
        status, ended_at = wanted.status_of(work.job)
        if done.get("status") != status:
            self._mlflow.update_run(run, status, ended_at)
            done["status"] = status

    def _parent(self, project: str, group: str, status: tuple[str, float | None], start: float) -> str:
        """The run of a group, found by its tag, in the status that the group is in."""
        run, shown = self._groups.get((project, group), ("", ""))
        if not run:
            experiment = self.experiment(project)
            found = self._mlflow.find_runs([experiment], wanted.GROUP, wanted.group_id(project, group))
            for twin in found[1:]:
                self._mlflow.delete_run(twin.id)
            tags = wanted.group_tags(project, group)
            run = found[0].id if found else self._mlflow.create_run(experiment, group, start, tags)
        if shown != status[0]:
            self._mlflow.update_run(run, *status)
        self._groups[project, group] = run, status[0]
        return run

    def _upload(self, work: Work, run: str, done: dict[str, Any]) -> list[str]:
        """Copy the files that MLflow does not have. Returns what storage has lost, in words."""
        sent, lost = dict(done.get("files", {})), []
        for artifact in work.files:
            path = f"{artifact.type}/{artifact.name}"
            if sent.get(path) == artifact.sha256:
                continue
            try:
                self._upload_one(done["experiment"], run, path, artifact)
            except CorruptObject as error:
                lost.append(f"{path} cannot be copied: {error}")
                continue
            sent[path] = artifact.sha256
            done["files"] = sent
            if artifact.size > LARGE:
                self._save(work, run, done, work.row.event_id)
        for text in lost:
            log.warning("job %s: %s", work.job.id, text)
        return lost

    def _upload_one(self, experiment: str, run: str, path: str, artifact: Artifact) -> None:
        stored = StoredObject(key=artifact.key, sha256=artifact.sha256, size=artifact.size, step=artifact.step)
        self._settings.work.mkdir(parents=True, exist_ok=True)  # there the dispatcher removes what a crash leaves
        with tempfile.TemporaryDirectory(prefix="mirror-", dir=self._settings.work) as aside:
            self._mlflow.upload(experiment, run, path, storage.of(self._settings).get(stored, into=Path(aside)))

    def _register(self, work: Work, run: str, done: dict[str, Any]) -> None:
        results = [artifact for artifact in work.files if artifact.type == "result"]
        sent = done.get("files", {})
        if work.job.state != JobState.SUCCEEDED or not results or f"result/{results[-1].name}" not in sent:
            return
        tags = wanted.version_tags(work.job, work.final, results[-1])
        tried = bool(done.get("before") or done.get("registering"))
        done["registering"] = True
        self._save(work, run, done, work.row.event_id)
        done["version"] = self._models.version(work.job, run, tags, tried=tried)
        self._save(work, run, done, work.row.event_id)
        self._models.point(work.job)

    def _save(
        self,
        work: Work,
        run: str,
        done: dict[str, Any],
        event: int,
        *,
        complete: bool = False,
        error: str | None = None,
    ) -> None:
        with self._db.write() as session:
            row = session.get(Row, work.job.id) or Row(job_id=work.job.id)
            row.run_id, row.done, row.event_id, row.complete, row.error = run, dict(done), event, complete, error
            session.add(row)


# ----------------------------------------------------------------------------------------------- the database


def again(session: Session, job_ids: list[str]) -> None:
    """Forget that these jobs were copied: they will be, from scratch. The caller commits."""
    for row in session.scalars(select(Row).where(Row.job_id.in_(job_ids)).with_for_update()):
        row.run_id, row.done, row.event_id, row.complete = None, {"before": True}, 0, False


def read(session: Session, settings: Settings, job_id: str) -> Work:
    """What is to be copied of a job."""
    job = session.get(Job, job_id)
    assert job is not None
    row = session.get(Row, job_id) or Row(job_id=job_id, run_id=None, event_id=0, done={}, complete=False)
    ended = job.state in TERMINAL
    newest = session.scalar(select(func.max(Event.id)).where(Event.job_id == job_id)) or 0
    settled = NEVER if ended else _settled(session, job_id)
    points, through, more = _points(session, job_id, int(row.done.get("through", -1)), settled)
    work = Work(
        job=job,
        row=row,
        newest_event=newest,
        tags=wanted.tags_of(session, settings, job),
        metrics=[wanted.metric(key, step, value, time) for key, step, value, time, _ in points],
        through=through,
        attempt=max((attempt for *_, attempt in points), default=0),
        more=more,
        rewritten=ended and _rewritten(session, job, row.done.get("copied", [])),
        group=None if job.group is None else wanted.group_status(session, job.project_id, job.group),
    )
    if ended and not more:
        work.files = list(wanted.files_of(session, job_id))
        work.final = wanted.final_evaluation(session, job_id)
    return work


def _settled(session: Session, job_id: str) -> int:
    """The last step that a retry will not do again: those before the newest checkpoint."""
    newest = select(func.max(Artifact.step)).where(Artifact.job_id == job_id, Artifact.type == "checkpoint")
    return (session.scalar(newest) or 0) - 1


def _rewritten(session: Session, job: Job, copied: list[list[int]]) -> bool:
    """Whether a value that was copied has been replaced since by a later attempt."""
    last: dict[int, int] = {attempt: through for through, attempt in copied}
    later = [
        and_(Point.step <= through, Point.attempt > attempt)
        for attempt, through in last.items()
        if attempt < job.epoch  # a number of an attempt is never above its epoch
    ]
    if not later:
        return False
    query = select(Point.step).join(Series, Series.id == Point.series_id).where(Series.job_id == job.id, or_(*later))
    return session.execute(query.limit(1)).first() is not None


_Row = tuple[Any, ...]  # key, step, value, time, attempt


def _points(session: Session, job_id: str, through: int, settled: int) -> tuple[list[_Row], int, bool]:
    """Up to ROWS rows of whole steps in (through, settled]; the last step they cover; whether there are more."""
    query = (
        select(Series.key, Point.step, Point.value, Point.time, Point.attempt)
        .join(Point, Point.series_id == Series.id)
        .where(Series.job_id == job_id)
    )
    news = query.where(Point.step > through, Point.step <= settled).order_by(Point.step).limit(ROWS + 1)
    rows: list[_Row] = [tuple(row) for row in session.execute(news)]
    if len(rows) <= ROWS:
        return rows, rows[-1][1] if rows else through, False
    last = rows[-1][1]
    whole = [row for row in rows if row[1] < last]
    if not whole:  # one step with more rows than that
        whole = [tuple(row) for row in session.execute(query.where(Point.step == last))]
    return whole, whole[-1][1], True
