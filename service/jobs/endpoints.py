"""HTTP routes of jobs: submit, look, and what people do to them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from bcd.spec import JobSpec
from service.access.principal import Me
from service.bodies import documented, read_as
from service.conditional import Tags, version_of
from service.deps import Db
from service.errors import parse_json, read_body
from service.jobs import again, batch, shown, verbs
from service.jobs.options import Options
from service.jobs.schemas import EvaluationsOut, JobOut, MetricsOut
from service.jobs.submit import submit
from service.jobs.validate import Verdict, validate

router = APIRouter(tags=["jobs"])

MAX_STEP = 2**31 - 1
_SPEC = documented("JobSpec")
_AGAIN: dict[int | str, dict[str, Any]] = {
    200: {"model": JobOut, "description": "The job that this Idempotency-Key made before."}
}
Raw = Annotated[bytes, Depends(read_body)]
Asked = Annotated[Options, Query()]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key with the same request again gives the same job (200), with another one 409.",
    ),
]


@router.post("/jobs", status_code=201, openapi_extra=_SPEC, responses=_AGAIN, summary="Submit a job spec (see /schema)")
def submit_job(response: Response, db: Db, me: Me, raw: Raw, options: Asked, key: Key = None) -> JobOut:
    return _made(response, submit(db, me, parse_json(raw), options, key=key))


@router.post("/jobs:validate", openapi_extra=_SPEC, summary="What a submission would do, cost and be refused for")
def validate_job(db: Db, me: Me, raw: Raw, options: Asked) -> Verdict:
    value = parse_json(raw)
    with db.read() as session:
        return validate(session, me, value, options)


@router.post("/jobs:batch", openapi_extra=documented(batch.Batch), summary="One verb for many jobs")
def batch_jobs(
    db: Db,
    me: Me,
    wanted: Annotated[batch.Batch, Depends(read_as(batch.Batch))],
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=150,
            description="The same key again retries no job a second time.",
        ),
    ] = None,
) -> batch.Outcomes:
    return batch.run(db, me, wanted, key=key)


@router.get("/jobs/{job_id}", summary="One job")
def get_job(db: Db, me: Me, tags: Tags, job_id: str) -> JobOut:
    with db.read() as session:
        job = shown.existing(session, me, job_id)
        tags.tag(me, version_of(session, [job.id]), job.wait_reason)  # which is written without an event
        return shown.show(session, me, job_id)


@router.patch("/jobs/{job_id}", openapi_extra=documented(verbs.Change), summary="Change priority, tags or group")
def change_job(db: Db, me: Me, job_id: str, wanted: Annotated[verbs.Change, Depends(read_as(verbs.Change))]) -> JobOut:
    with db.write() as session:
        return shown.shown(session, [verbs.change(session, me, job_id, wanted)], tracebacks=True)[0]


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job")
def cancel_job(db: Db, me: Me, job_id: str) -> JobOut:
    with db.write() as session:
        return shown.shown(session, [verbs.cancel(session, me, job_id)], tracebacks=True)[0]


@router.post("/jobs/{job_id}/pause", summary="Pause a job; one that runs stops at a checkpoint")
def pause_job(db: Db, me: Me, job_id: str) -> JobOut:
    with db.write() as session:
        return shown.shown(session, [verbs.pause(session, me, job_id)], tracebacks=True)[0]


@router.post("/jobs/{job_id}/resume", summary="Let a paused job go on")
def resume_job(db: Db, me: Me, job_id: str) -> JobOut:
    with db.write() as session:
        return shown.shown(session, [verbs.resume(session, me, job_id)], tracebacks=True)[0]


@router.post(
    "/jobs/{job_id}/retry",
    status_code=201,
    responses=_AGAIN,
    summary="A new job that goes on from the newest checkpoint of one that failed or was cancelled",
)
def retry_job(
    response: Response,
    db: Db,
    me: Me,
    job_id: str,
    from_start: Annotated[bool, Query(description="Take nothing over; start afresh.")] = False,
    key: Key = None,
) -> JobOut:
    return _made(response, again.retry(db, me, job_id, key=key, from_start=from_start))


@router.post(
    "/jobs/{job_id}/clone",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
    responses=_AGAIN,
    summary="A new job of the same spec with a JSON merge patch (RFC 7396) applied",
)
def clone_job(response: Response, db: Db, me: Me, job_id: str, raw: Raw, options: Asked, key: Key = None) -> JobOut:
    """Options that are not given are those of the job that is cloned."""
    return _made(response, again.clone(db, me, job_id, parse_json(raw), options, key=key))


@router.get("/jobs/{job_id}/metrics", summary="Metric series")
def get_metrics(
    db: Db,
    me: Me,
    job_id: str,
    key: Annotated[list[str], Query(description="Only these series; may be repeated.", max_length=200)] = [],  # noqa: B006
    after_step: Annotated[int | None, Query(ge=-1, le=MAX_STEP)] = None,
) -> MetricsOut:
    with db.read() as session:
        return shown.metrics(session, me, job_id, keys=key, after_step=after_step)


@router.get("/jobs/{job_id}/evaluations", summary="Evaluations")
def get_evaluations(db: Db, me: Me, job_id: str) -> EvaluationsOut:
    with db.read() as session:
        return shown.evaluations(session, me, job_id)


@router.get("/schema", summary="JSON schema of the job spec")
def get_schema() -> dict[str, Any]:
    return JobSpec.model_json_schema()


def _made(response: Response, made: tuple[JobOut, bool]) -> JobOut:
    job, new = made
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job
