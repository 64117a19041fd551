"""HTTP routes of jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from bcd.spec import JobSpec
from service.access.principal import Me
from service.conditional import Tags, version_of
from service.deps import Db
from service.errors import parse_json, read_body
from service.jobs import repository, service
from service.jobs.schemas import EvaluationsOut, JobOut, LogsOut, MetricsOut, evaluation_out
from service.models import DEFAULT_PROJECT

router = APIRouter(tags=["jobs"])

MAX_ID = 2**63 - 1
MAX_STEP = 2**31 - 1
# The body is read by `parse_json`, not by FastAPI, so its schema is named here.
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


@router.post("/jobs", status_code=201, openapi_extra=_BODY, summary="Submit a job spec (see /schema)")
def submit_job(
    response: Response,
    db: Db,
    me: Me,
    raw: Annotated[bytes, Depends(read_body)],
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=200, description="The same key and spec again give the same job (200)."),
    ] = None,
    project: Annotated[str, Query(max_length=40, description="The project that the job belongs to.")] = DEFAULT_PROJECT,
) -> JobOut:
    options = service.Options(project=project, idempotency_key=idempotency_key)
    job, new = service.submit(db, me, parse_json(raw), options)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


@router.get("/jobs/{job_id}", summary="One job")
def get_job(db: Db, me: Me, tags: Tags, job_id: str) -> JobOut:
    with db.read() as session:
        job = service.existing(session, me, job_id)
        tags.tag(me, version_of(session, [job.id]), job.wait_reason)  # which is written without an event
        return service.show(session, me, job_id)


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job")
def cancel_job(db: Db, me: Me, job_id: str) -> JobOut:
    with db.write() as session:
        return service.cancel(session, me, job_id)


@router.get("/jobs/{job_id}/metrics", summary="Metric series")
def get_metrics(
    db: Db,
    me: Me,
    job_id: str,
    key: Annotated[list[str], Query(description="Only these series; may be repeated.", max_length=200)] = [],  # noqa: B006
    after_step: Annotated[int | None, Query(ge=-1, le=MAX_STEP)] = None,
) -> MetricsOut:
    with db.read() as session:
        return service.metrics(session, me, job_id, keys=key, after_step=after_step)


@router.get("/jobs/{job_id}/logs", summary="Log lines")
def get_logs(
    db: Db,
    me: Me,
    job_id: str,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="`next` of the answer before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> LogsOut:
    with db.read() as session:
        return service.logs(session, me, job_id, after=after, limit=limit)


@router.get("/jobs/{job_id}/evaluations", summary="Evaluations")
def get_evaluations(db: Db, me: Me, job_id: str) -> EvaluationsOut:
    with db.read() as session:
        service.existing(session, me, job_id)
        return EvaluationsOut(items=[evaluation_out(row) for row in repository.evaluations(session, job_id)])


@router.get("/schema", summary="JSON schema of the job spec")
def get_schema() -> dict[str, Any]:
    return JobSpec.model_json_schema()
