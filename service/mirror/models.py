"""Versions of registered models in MLflow, and the aliases that point at them.

`newest` is the version of the job that ended last, `best` the one with the highest final AP of those that were judged
by the same protocol as the newest. (The alias `latest` is MLflow's own: `models:/NAME/latest` is what it made last.)
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db import Database
from service.mirror import wanted
from service.mirror.mlflow_api import Mlflow
from service.models import Evaluation, Job, JobState
from service.models import Mirror as Row

NEWEST, BEST = "newest", "best"


class Models:
    """Registers results and moves aliases."""

    def __init__(self, db: Database, mlflow: Mlflow):
        self._db, self._mlflow = db, mlflow
        self._aliases: dict[str, dict[str, str]] = {}  # as they are, by model; every model in it is there

    def forget(self) -> None:
        self._aliases.clear()

    def version(self, job: Job, run: str, tags: Mapping[str, str], *, tried: bool) -> str:
        """The version for the job's run. `tried`: there may be one already; and those of other runs go."""
        model = wanted.model_of(job.project_id, job.name)
        found = None
        for one in self._mlflow.versions(wanted.JOB, job.id) if tried else ():
            if one.name == model and one.run == run and found is None:
                found = one.version
            else:
                self._mlflow.delete_version(one.name, one.version)
        if found is not None:
            return found
        if model not in self._aliases:
            self._mlflow.create_model(model)
            self._aliases[model] = {}
        return self._mlflow.create_version(model, run, "result", tags)

    def point(self, job: Job) -> None:
        """Let the aliases of the job's model point at the right versions of those that there are."""
        model = wanted.model_of(job.project_id, job.name)
        with self._db.read() as session:
            aliases = aliases_of(session, job.project_id, job.name)
        shown = self._aliases.setdefault(model, {})
        for alias, version in aliases.items():
            if shown.get(alias) != version:
                self._mlflow.set_alias(model, alias, version)
                shown[alias] = version


def aliases_of(session: Session, project: str, name: str) -> dict[str, str]:
    """Which versions the aliases of a model must point at, of all that are registered so far."""
    version = Row.done["version"].as_string()
    same_name = func.replace(func.replace(Job.name, "/", "-"), ":", "-") == name.replace("/", "-").replace(":", "-")
    registered = (
        select(version, Evaluation.protocol)
        .select_from(Job)
        .join(Row, Row.job_id == Job.id)
        .outerjoin(Evaluation, (Evaluation.job_id == Job.id) & (Evaluation.name == "final"))
        .where(Job.project_id == project, same_name, Job.state == JobState.SUCCEEDED.value, version.is_not(None))
    )
    newest = session.execute(registered.order_by(Job.ended_at.desc(), Job.id.desc()).limit(1)).first()
    if newest is None:
        return {}
    aliases, protocol = {NEWEST: newest[0]}, newest[1]
    ap = Evaluation.results["AP"].as_float()
    judged = registered.where(Evaluation.protocol == protocol, ap.is_not(None))
    best = session.execute(judged.order_by(ap.desc(), Job.ended_at, Job.id).limit(1)).first()
    return aliases if best is None else {**aliases, BEST: best[0]}
