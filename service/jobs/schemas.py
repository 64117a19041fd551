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
    traceback: str | None = Field(description="Only in the answer for a single job.")
    created_at: float
    started_at: float | None
    ended_at: float | None


class JobOut(BaseModel):
    """A job and how far it has come. Times are Unix seconds."""

    id: str
    name: str
    state: str
    cause: str | None
    spec: dict[str, Any] = Field(description="The spec with every default filled in.")
    seed: int
    methods: list[str] = Field(description="Types of the distillation methods; empty: trained on labels alone.")
    step: int
    total_steps: int
    teacher_job_id: str | None
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


class LogLineOut(BaseModel):
    id: int
    time: float
    level: str
    text: str
    attempt: int = Field(description="Number of the attempt.")


class LogsOut(BaseModel):
    lines: list[LogLineOut]
    next: int = Field(description="Pass as `after` to read on.")


class EvaluationOut(BaseModel):
    id: str
    name: str
    step: int
    protocol: str
    results: dict[str, Any]
    created_at: float


class EvaluationsOut(BaseModel):
    items: list[EvaluationOut]


def job_out(job: Job, attempts: Sequence[Attempt], final: dict[str, Any] | None, *, tracebacks: bool = False) -> JobOut:
    """A job with its attempts (in order) and the results of its final evaluation."""
    return JobOut(
        id=job.id,
        name=job.name,
        state=job.state,
        cause=job.cause,
        spec=job.spec,
        seed=job.spec["seed"],
        methods=[method["type"] for method in job.spec["methods"]],
        step=job.step,
        total_steps=job.total_steps,
        teacher_job_id=job.teacher_job_id,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        attempts=[
            AttemptOut(
                id=attempt.id,
                number=attempt.number,
                state=attempt.state,
                cause=attempt.cause,
                traceback=attempt.traceback if tracebacks else None,
                created_at=attempt.created_at,
                started_at=attempt.started_at,
                ended_at=attempt.ended_at,
            )
            for attempt in attempts
        ],
        evaluation=final,
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
