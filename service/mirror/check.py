"""Does MLflow have exactly what the database says? Every job that has ended, every value, every file.

Invariant I8. It only reads, on both sides, and takes about as many requests as there are jobs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bcd.records import StoredObject
from bcd.storage import CorruptObject
from service import storage
from service.db import Database
from service.mirror import wanted
from service.mirror.mlflow_api import BATCH_HISTORY, Metric, Mlflow, Run
from service.mirror.models import aliases_of
from service.models import GENERATED, TERMINAL, Artifact, Evaluation, Job, JobState, Series
from service.models import Mirror as Row
from service.results import metrics
from service.settings import Settings

POINTS = 200_000  # values that are compared at a time
HISTORIES = 100  # runs of which MLflow tells a metric at once


@dataclass
class Expected:
    """A job that has ended, and what MLflow must have of it."""

    job: Job
    row: Row | None
    tags: dict[str, str]
    metrics: dict[str, set[Metric]]
    files: list[Artifact]
    final: Evaluation | None


def compare(
    settings: Settings, db: Database, mlflow: Mlflow, *, progress: Callable[[int, int], None] = lambda done, all: None
) -> list[str]:
    """The differences, each in a sentence; none: the mirror equals the database. Raises `MlflowAway`.

    Call it when nothing runs. Jobs that have not ended are not looked at. `progress(done, all)` counts jobs.
    """
    ended = [state.value for state in TERMINAL]
    with db.read() as session:
        projects = session.scalars(
            select(Job.project_id).where(Job.project_id != GENERATED).distinct().order_by(Job.project_id)
        ).all()
        jobs = set(session.scalars(select(Job.id).where(Job.project_id != GENERATED, Job.state.in_(ended))))
        all_jobs = set(session.scalars(select(Job.id)))
    check = _Check(settings, db, mlflow)
    seen: set[str] = set()
    for project in projects:
        experiment = mlflow.find_experiment(wanted.experiment_of(project))
        for page in mlflow.all_runs(experiment) if experiment is not None else ():
            ours = [run for run in page if wanted.JOB in run.tags]
            for run in ours:
                if run.tags[wanted.JOB] not in all_jobs:
                    check.say(f"MLflow has a run {run.id} of job {run.tags[wanted.JOB]}, which does not exist here")
            check.runs({run.tags[wanted.JOB]: run for run in ours if run.tags[wanted.JOB] in jobs}, seen)
            found = [run.tags[wanted.JOB] for run in ours]
            for job_id in sorted({job for job in found if job in seen or found.count(job) > 1} & all_jobs):
                check.say(f"job {job_id}: MLflow has more than one run of it")
            seen |= set(found)
            progress(len(seen & jobs), len(jobs))
    for job_id in sorted(jobs - seen):
        check.say(f"job {job_id}: MLflow has no run of it")
    check.models()
    check.groups()
    return check.differences


class _Check:
    def __init__(self, settings: Settings, db: Database, mlflow: Mlflow):
        self._settings, self._db, self._mlflow = settings, db, mlflow
        self.differences: list[str] = []

    def say(self, text: str) -> None:
        self.differences.append(text)

    def runs(self, runs: dict[str, Run], seen: set[str]) -> None:
        """Compare the runs of jobs that have ended, given by job."""
        for part in self._parts(sorted(runs.keys() - seen)):
            with self._db.read() as session:
                expected = [_expected(session, self._settings, job_id) for job_id in part]
                session.expunge_all()
            there = self._metrics(expected, runs)
            for one in expected:
                self._run(one, runs[one.job.id])
                self._values(one, there[one.job.id])
                self._files(one, runs[one.job.id])

    def _parts(self, jobs: Sequence[str]) -> Iterator[list[str]]:
        """The jobs in parts of not too many values."""
        with self._db.read() as session:
            query = select(Series.job_id, func.sum(Series.count)).where(Series.job_id.in_(jobs))
            counts = {job: int(count) for job, count in session.execute(query.group_by(Series.job_id))}
        return _chunks(jobs, counts, size=POINTS)

    def _metrics(self, expected: Sequence[Expected], runs: dict[str, Run]) -> dict[str, dict[str, list[Metric]]]:
        """What MLflow has of these jobs: values by job and key."""
        there: dict[str, dict[str, list[Metric]]] = {one.job.id: {} for one in expected}
        jobs = {runs[one.job.id].id: one.job.id for one in expected}
        for key in sorted({key for one in expected for key in runs[one.job.id].metric_keys}):
            holders = [run for run, job in jobs.items() if key in runs[job].metric_keys]
            sizes = {runs[one.job.id].id: len(one.metrics.get(key, ())) for one in expected}
            for part in _chunks(holders, sizes):
                for run, rows in self._mlflow.histories(part, key).items():
                    there[jobs[run]][key] = rows
        return there

    def _run(self, one: Expected, run: Run) -> None:
        job, row = one.job, one.row
        if row is None or not row.complete:
            why = f": {row.error}" if row is not None and row.error else ""
            self.say(f"job {job.id} is not copied completely yet{why}")
        elif row.run_id != run.id:
            self.say(f"job {job.id}: the database remembers run {row.run_id}, and MLflow has {run.id}")
        status, ended_at = wanted.status_of(job)
        end = None if ended_at is None else int(ended_at * 1000)
        shown = {"name": run.name, "status": run.status, "start": run.start, "end": run.end}
        right = {"name": job.name, "status": status, "start": int(job.created_at * 1000), "end": end}
        self._equal(job.id, "", shown, right)
        self._equal(job.id, "parameter ", run.params, wanted.params_of(job))
        ours = {key: value for key, value in run.tags.items() if key.startswith("bcd.") or key in one.tags}
        self._equal(job.id, "tag ", ours, one.tags)
        if (job.group is None) != (wanted.PARENT not in run.tags):
            self.say(f"job {job.id}: its run is {'nested' if job.group is None else 'not nested in that of its group'}")

    def _equal(self, job_id: str, what: str, there: Mapping[str, object], here: Mapping[str, object]) -> None:
        for key in sorted(there.keys() | here.keys()):
            if there.get(key) != here.get(key):
                self.say(f"job {job_id}: {what}{key} is {there.get(key)!r} in MLflow and {here.get(key)!r} here")

    def _values(self, one: Expected, there: dict[str, list[Metric]]) -> None:
        for key in sorted(there.keys() | one.metrics.keys()):
            found, right = there.get(key, []), one.metrics.get(key, set())
            missing, odd, twice = right - set(found), set(found) - right, len(found) - len(set(found))
            parts = []
            if missing:
                parts.append(f"lacks {len(missing)} of {len(right)} values (from step {min(m.step for m in missing)})")
            if odd:
                parts.append(f"has {len(odd)} others (from step {min(m.step for m in odd)})")
            if twice:
                parts.append(f"has {twice} of them twice")
            if parts:
                self.say(f"job {one.job.id}: MLflow {' and '.join(parts)} of metric {key}")

    def _files(self, one: Expected, run: Run) -> None:
        """All files that the service keeps must be there. Checkpoints that it has dropped since may be."""
        kept = {f"{artifact.type}/{artifact.name}": artifact for artifact in one.files}
        right = {path: artifact.size for path, artifact in kept.items()}
        there: dict[str, int] = {}
        for folder in sorted({artifact.type for artifact in one.files}):
            there |= self._mlflow.files(run.id, folder)
        for path, size in sorted(right.items()):
            # A file that storage has lost or damaged can be copied by nobody, and is told where it is read.
            if there.get(path) != size and self._whole(kept[path]):
                self.say(f"job {one.job.id}: file {path} has {there.get(path, 'no')} bytes in MLflow and {size} here")
        for path in sorted(there.keys() - right.keys()):
            if not path.startswith("checkpoint/"):
                self.say(f"job {one.job.id}: MLflow has a file {path} that is not here")
        results = [artifact for artifact in one.files if artifact.type == "result"]
        if one.job.state == JobState.SUCCEEDED and results:
            self._version(one, run, wanted.version_tags(one.job, one.final, results[-1]))

    def _whole(self, artifact: Artifact) -> bool:
        stored = StoredObject(key=artifact.key, sha256=artifact.sha256, size=artifact.size, step=artifact.step)
        with tempfile.TemporaryDirectory(prefix="bcd-check-") as aside:
            try:
                storage.of(self._settings).get(stored, into=Path(aside))
            except CorruptObject:
                return False
        return True

    def _version(self, one: Expected, run: Run, tags: dict[str, str]) -> None:
        job_id, version = one.job.id, one.row.done.get("version") if one.row is not None else None
        right = [(wanted.model_of(one.job.project_id, one.job.name), version, run.id, tags)]
        there = [(v.name, v.version, v.run, v.tags) for v in self._mlflow.versions(wanted.JOB, job_id)]
        if there != right:
            self.say(f"job {job_id}: its model versions in MLflow are {there}, and should be {right}")

    def models(self) -> None:
        """The aliases of each model point at the right versions."""
        with self._db.read() as session:
            done = select(Job.project_id, Job.name).join(Row, Row.job_id == Job.id).where(Row.complete.is_(True))
            names = [(project, name) for project, name in session.execute(done.distinct())]
            right = {wanted.model_of(*each): aliases_of(session, *each) for each in names}
        for model, aliases in sorted(right.items()):
            there = self._mlflow.aliases(model) or {} if aliases else {}
            ours = {alias: version for alias, version in there.items() if alias in aliases}
            if ours != aliases:
                self.say(f"model {model}: its aliases in MLflow are {ours}, and should be {aliases}")

    def groups(self) -> None:
        """Each group has one run of its own, in the right status."""
        with self._db.read() as session:
            named = select(Job.project_id, Job.group).where(Job.group.is_not(None)).distinct()
            groups = [(project, str(group)) for project, group in session.execute(named)]
            right = {each: wanted.group_status(session, *each)[0] for each in groups}
        for (project, group), status in sorted(right.items()):
            experiment = self._mlflow.find_experiment(wanted.experiment_of(project))
            tag = wanted.GROUP, wanted.group_id(project, group)
            there = [run.status for run in self._mlflow.find_runs([experiment], *tag)] if experiment else []
            if there != [status]:
                self.say(
                    f"group {group} of project {project}: its runs in MLflow are {there}, and should be {[status]}"
                )


def _chunks(
    items: Sequence[str], weights: Mapping[str, int], *, size: int = BATCH_HISTORY - 1, most: int = HISTORIES
) -> Iterator[list[str]]:
    """The items in lists of at most `most` and, where a list has several, of this weight together."""
    chunk: list[str] = []
    weighs = 0
    for item in items:
        if chunk and (len(chunk) >= most or weighs + weights.get(item, 0) > size):
            yield chunk
            chunk, weighs = [], 0
        chunk.append(item)
        weighs += weights.get(item, 0)
    if chunk:
        yield chunk


def _expected(session: Session, settings: Settings, job_id: str) -> Expected:
    job = session.get(Job, job_id)
    assert job is not None
    final = wanted.final_evaluation(session, job_id)
    rows = [wanted.metric(*row) for row in metrics.read(session, job_id)] + wanted.final_metrics(final)
    by_key: dict[str, set[Metric]] = {}
    for row in rows:
        by_key.setdefault(row.key, set()).add(row)
    return Expected(
        job=job,
        row=session.get(Row, job_id),
        tags=wanted.tags_of(session, settings, job),
        metrics=by_key,
        files=list(wanted.files_of(session, job_id)),
        final=final,
    )
