"""What the API shows of a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from service.models import Attempt, Evaluation, Job


class AttemptOut(BaseModel):
    """One try at a job."""

    id: str
    number: int
    state: str
    cause: str | None
    cause_type: str | None = Field(
        description="infrastructure: the machine's fault, tried again by itself. job: that of its own data or code."
    )
    traceback: str | None = Field(description="Only in the answer for a single job.")
    host: str | None = Field(description="The machine that ran it, once its worker has said so.")
    cpus: int
    gpus: float
    created_at: float
    started_at: float | None
    ended_at: float | None


class JobOut(BaseModel):
    """A job and how far it has come. Times are Unix seconds."""

    id: str
    project: str
    name: str
    state: str
    cause: str | None
    wait_reason: str | None = Field(description="Why it is not running yet, as the dispatcher last saw it.")
    priority: int = Field(description="Higher goes first, -100 to 100.")
    tags: list[str]
    group: str | None = Field(description="Name shared by runs that are looked at together.")
    retries: int = Field(description="How often a failure of the job itself is tried again.")
    spec: dict[str, Any] = Field(description="The spec with every default filled in.")
    seed: int
    methods: list[str] = Field(description="Types of the distillation methods; empty: trained on labels alone.")
    step: int
    total_steps: int
    teacher_job_id: str | None
    needs: list[str] = Field(description="Jobs that must have succeeded before it starts; its teacher is one of them.")
    parent_id: str | None = Field(description="The job from which this one was cloned, or which it retries.")
    origin: str | None = Field(description="clone, retry; null: submitted as it is.")
    created_by: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    attempts: list[AttemptOut]
    evaluation: dict[str, Any] | None = Field(description="Results of the final evaluation, once there is one.")


class Series(BaseModel):
    """One metric over the steps; the three lists are parallel."""

    steps: list[int]
    values: list[float]
    times: list[float]


class MetricsOut(BaseModel):
    series: dict[str, Series]


class EvaluationOut(BaseModel):
    id: str
    name: str
    step: int
    protocol: str
    results: dict[str, Any]
    created_at: float


class EvaluationsOut(BaseModel):
    items: list[EvaluationOut]


def job_out(
    job: Job,
    attempts: Sequence[Attempt],
    final: dict[str, Any] | None,
    *,
    tags: Sequence[str],
    needs: Sequence[str],
    tracebacks: bool = False,
) -> JobOut:
    """A job with its attempts (in order) and the results of its final evaluation."""
    return JobOut(
        id=job.id,
        project=job.project_id,
        name=job.name,
        state=job.state,
        cause=job.cause,
        wait_reason=job.wait_reason,
        priority=job.priority,
        tags=list(tags),
        group=job.group,
        retries=job.retries,
        spec=job.spec,
        seed=job.spec["seed"],
        methods=[method["type"] for method in job.spec["methods"]],
        step=job.step,
        total_steps=job.total_steps,
        teacher_job_id=job.teacher_job_id,
        needs=list(needs),
        parent_id=job.parent_id,
        origin=job.origin,
        created_by=job.created_by,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        attempts=[attempt_out(attempt, traceback=tracebacks) for attempt in attempts],
        evaluation=final,
    )


def attempt_out(attempt: Attempt, *, traceback: bool) -> AttemptOut:
    return AttemptOut(
        id=attempt.id,
        number=attempt.number,
        state=attempt.state,
        cause=attempt.cause,
        cause_type=attempt.cause_type,
        traceback=attempt.traceback if traceback else None,
        host=attempt.process.split("/", 1)[0] if attempt.process else None,
        cpus=attempt.cpus,
        gpus=attempt.gpus,
        created_at=attempt.created_at,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
    )


def evaluation_out(row: Evaluation) -> EvaluationOut:
    return EvaluationOut(
        id=row.id,
        name=row.name,
        step=row.step,
        protocol=row.protocol,
        results=row.results,
        created_at=row.created_at,
    )
