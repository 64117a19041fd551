"""What the run of a job must look like in MLflow, from the database alone: the copy and the check both read it here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.links import job_url
from service.mirror.mlflow_api import LONGEST_PARAM, LONGEST_TAG, Metric, valid_key
from service.models import DEFAULT_PROJECT, TERMINAL, Artifact, Attempt, Evaluation, Event, Job, JobState, JobTag
from service.settings import Settings

JOB, GROUP = "bcd.job_id", "bcd.group_id"  # the tags by which runs are found again
PARENT = "mlflow.parentRunId"
STATUS = {
    JobState.WAITING: "SCHEDULED", JobState.QUEUED: "SCHEDULED", JobState.STARTING: "RUNNING",
    JobState.RUNNING: "RUNNING", JobState.PAUSING: "RUNNING", JobState.PAUSED: "SCHEDULED",
    JobState.CANCELLING: "RUNNING", JobState.SUCCEEDED: "FINISHED", JobState.FAILED: "FAILED",
    JobState.CANCELLED: "KILLED",
}  # fmt: skip


def experiment_of(project: str) -> str:
    """The name of a project's experiment. That of `default` is the name that older copies have."""
    return "bcd" if project == DEFAULT_PROJECT else f"bcd/{project}"


def model_of(project: str, name: str) -> str:
    """The registered model whose versions are the results of the project's jobs of this name."""
    plain = re.sub(r"[/:]", "-", name)
    return f"bcd-{plain}" if project == DEFAULT_PROJECT else f"bcd.{project}.{plain}"


def group_id(project: str, group: str) -> str:
    return sha256(f"{project}/{group}".encode()).hexdigest()[:32]


def group_tags(project: str, group: str) -> dict[str, str]:
    return {GROUP: group_id(project, group), "bcd.project": project, "bcd.group": group}


def group_status(session: Session, project: str, group: str) -> tuple[str, float | None]:
    """The status of a group's own run, and when it ended."""
    query = select(Job.state, func.max(Job.ended_at)).where(Job.project_id == project, Job.group == group)
    found = list(session.execute(query.group_by(Job.state)))
    if any(state not in TERMINAL for state, _ in found):
        return "RUNNING", None
    return "FINISHED", max((float(ended) for _, ended in found if ended is not None), default=None)


def status_of(job: Job) -> tuple[str, float | None]:
    return STATUS[JobState(job.state)], job.ended_at if job.state in TERMINAL else None


def params_of(job: Job) -> dict[str, str]:
    return {valid_key(key): value[:LONGEST_PARAM] for key, value in flatten(job.spec).items()}


def tags_of(session: Session, settings: Settings, job: Job) -> dict[str, str]:
    """All tags of a job's run but the id of its parent, which MLflow gives."""
    facts = facts_of(session, job.id)
    commit = facts.get("git_commit", "")
    teacher = job.spec.get("teacher") or {}
    attempts = session.scalar(select(func.count()).select_from(Attempt).where(Attempt.job_id == job.id)) or 0
    words = session.scalars(select(JobTag.tag).where(JobTag.job_id == job.id))
    tags: dict[str, Any] = {
        JOB: job.id,
        "bcd.url": job_url(settings, job.id),
        "bcd.project": job.project_id,
        "bcd.user": job.created_by,
        "bcd.state": job.state,
        "bcd.cause": job.cause,
        "bcd.attempts": attempts,
        "bcd.priority": job.priority,
        "bcd.group": job.group,
        "bcd.seed": job.spec.get("seed", 0),
        "bcd.methods": ",".join(method["type"] for method in job.spec.get("methods", [])) or "none",
        "bcd.detector": job.detector,
        "bcd.dataset": job.dataset,
        "bcd.data_version": facts.get("data_version"),
        "bcd.git_commit": commit,
        "bcd.version": facts.get("bcd_version"),
        "bcd.torch": facts.get("torch"),
        "bcd.host": facts.get("host"),
        "bcd.device": facts.get("device"),
        "bcd.teacher": teacher.get("job") or teacher.get("path"),
        "bcd.teacher_sha256": _teacher_hash(session, job) or facts.get("teacher_sha256"),
        "bcd.parent_job": job.parent_id,
        **{valid_key(f"bcd.tag.{word}"): word for word in words},
        # What MLflow's own pages show
        "mlflow.user": job.created_by,
        "mlflow.source.name": "bcd",
        "mlflow.source.git.commit": commit.partition("+")[0],
    }
    return {key: str(value)[:LONGEST_TAG] for key, value in tags.items() if value not in (None, "")}


def facts_of(session: Session, job_id: str) -> dict[str, str]:
    """What the job's runs have told about themselves; the newest word on each thing."""
    query = select(Event.data).where(Event.job_id == job_id, Event.type == "job.facts").order_by(Event.id)
    facts: dict[str, str] = {}
    for data in session.scalars(query):
        facts |= data["values"]
    return facts


def _teacher_hash(session: Session, job: Job) -> str | None:
    query = select(Artifact.sha256).where(Artifact.job_id == job.teacher_job_id, Artifact.type == "result")
    return session.scalar(query.order_by(Artifact.step.desc()).limit(1)) if job.teacher_job_id else None


def final_evaluation(session: Session, job_id: str) -> Evaluation | None:
    return session.scalar(select(Evaluation).where(Evaluation.job_id == job_id, Evaluation.name == "final"))


def final_metrics(final: Evaluation | None) -> list[Metric]:
    """The final evaluation as metrics `final/AP` and so on."""
    if final is None:
        return []
    return [
        metric(f"final/{key}", final.step, value, final.created_at)
        for key, value in final.results.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def metric(key: str, step: int, value: float, time: float) -> Metric:
    return Metric(valid_key(key), step, float(value), int(time * 1000))


def files_of(session: Session, job_id: str) -> Sequence[Artifact]:
    """The files that belong to the run of a job that has ended: all that the service keeps of it, but for the pictures
    of its data set, of which storage has one copy for all runs and MLflow would have one for each.
    """
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.type != "gallery")
    return session.scalars(query.order_by(Artifact.step)).all()


def version_tags(job: Job, final: Evaluation | None, result: Artifact) -> dict[str, str]:
    scores = {} if final is None else {"bcd.AP": final.results.get("AP"), "bcd.protocol": final.protocol}
    tags = {JOB: job.id, "bcd.sha256": result.sha256, **scores}
    return {key: str(value) for key, value in tags.items() if value is not None}


def flatten(spec: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
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
