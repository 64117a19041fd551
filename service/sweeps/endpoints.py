"""HTTP routes of sweeps: submit, look, and what people do to them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from bcd.sweep import SweepSpec
from service.access.principal import Me
from service.bodies import documented, read_as
from service.deps import Db
from service.errors import Problem, parse_json, read_body
from service.models import SweepState
from service.sweeps import report, repository, verbs
from service.sweeps.importance import importances
from service.sweeps.schemas import ImportanceOut, SweepDetail, SweepReport, SweepsOut, TrialsOut
from service.sweeps.shown import sweep_detail, sweep_out
from service.sweeps.submit import Options, SweepVerdict, submit, validate

router = APIRouter(tags=["sweeps"])

_SPEC = documented("SweepSpec")
_AGAIN: dict[int | str, dict[str, Any]] = {
    200: {"model": SweepDetail, "description": "The sweep that this Idempotency-Key made before."}
}
Raw = Annotated[bytes, Depends(read_body)]
Asked = Annotated[Options, Query()]


@router.post(
    "/sweeps",
    status_code=201,
    openapi_extra=_SPEC,
    responses=_AGAIN,
    summary="Submit a sweep spec (see /sweep-schema)",
)
def submit_sweep(
    response: Response,
    db: Db,
    me: Me,
    raw: Raw,
    options: Asked,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=200,
            description="The same key with the same request again gives the same sweep (200), with another one 409.",
        ),
    ] = None,
) -> SweepDetail:
    sweep_id, new = submit(db, me, parse_json(raw), options, key=key)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/api/v1/sweeps/{sweep_id}"
    return get_sweep(db, me, sweep_id)


@router.post("/sweeps:validate", openapi_extra=_SPEC, summary="What a submission would do and be refused for")
def validate_sweep(db: Db, me: Me, raw: Raw, options: Asked) -> SweepVerdict:
    value = parse_json(raw)
    with db.read() as session:
        return validate(session, me, value, options)


@router.get("/sweeps", summary="Sweeps, newest first")
def list_sweeps(
    db: Db,
    me: Me,
    project: Annotated[str | None, Query(max_length=40)] = None,
    state: SweepState | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> SweepsOut:
    with db.read() as session:
        rows, following = repository.page(session, me, limit=limit, cursor=cursor, project=project, state=state)
        jobs = repository.counts(session, [row.id for row in rows])
        return SweepsOut(items=[sweep_out(row, jobs[row.id]) for row in rows], next_cursor=following)


@router.get("/sweeps/{sweep_id}", summary="One sweep")
def get_sweep(db: Db, me: Me, sweep_id: str) -> SweepDetail:
    with db.read() as session:
        sweep = repository.existing(session, me, sweep_id)
        return sweep_detail(sweep, repository.counts(session, [sweep.id])[sweep.id])


@router.get("/sweeps/{sweep_id}/trials", summary="Its trials, each of which is a job")
def get_trials(db: Db, me: Me, sweep_id: str) -> TrialsOut:
    with db.read() as session:
        return TrialsOut(items=report.trials_out(session, repository.existing(session, me, sweep_id)))


@router.get("/sweeps/{sweep_id}/report", summary="What it found: best, ranking over seeds, cost")
def get_report(db: Db, me: Me, sweep_id: str) -> SweepReport:
    with db.read() as session:
        return report.report(session, repository.existing(session, me, sweep_id))


@router.get("/sweeps/{sweep_id}/importance", summary="Which parameters matter, and how sure that is")
def get_importance(db: Db, me: Me, sweep_id: str) -> ImportanceOut:
    with db.read() as session:
        spec, tried = report.importance(session, repository.existing(session, me, sweep_id))
    return importances(spec, tried)


@router.get("/sweeps/{sweep_id}/best", summary="The winner's job spec, ready to be submitted")
def get_best(db: Db, me: Me, sweep_id: str) -> dict[str, Any]:
    with db.read() as session:
        found = report.best_spec(session, repository.existing(session, me, sweep_id))
    if found is None:
        raise Problem(409, f"no trial of sweep {sweep_id} has run to its end yet")
    return found


@router.post("/sweeps/{sweep_id}/pause", summary="Begin no trial, stop those that run at a checkpoint")
def pause_sweep(db: Db, me: Me, sweep_id: str) -> SweepDetail:
    with db.write() as session:
        verbs.pause(session, me, sweep_id)
    return get_sweep(db, me, sweep_id)


@router.post("/sweeps/{sweep_id}/resume", summary="Let a paused sweep go on")
def resume_sweep(db: Db, me: Me, sweep_id: str) -> SweepDetail:
    with db.write() as session:
        verbs.resume(session, me, sweep_id)
    return get_sweep(db, me, sweep_id)


@router.post("/sweeps/{sweep_id}/stop", summary="End it now; jobs that have not ended are cancelled")
def stop_sweep(db: Db, me: Me, sweep_id: str) -> SweepDetail:
    with db.write() as session:
        verbs.stop(session, me, sweep_id)
    return get_sweep(db, me, sweep_id)


@router.post(
    "/sweeps/{sweep_id}/extend", openapi_extra=documented(verbs.Extension), summary="Search on with a larger budget"
)
def extend_sweep(
    db: Db, me: Me, sweep_id: str, wanted: Annotated[verbs.Extension, Depends(read_as(verbs.Extension))]
) -> SweepDetail:
    with db.write() as session:
        verbs.extend(session, me, sweep_id, wanted)
    return get_sweep(db, me, sweep_id)


@router.get("/sweep-schema", summary="JSON schema of the sweep spec")
def get_sweep_schema() -> dict[str, Any]:
    return SweepSpec.model_json_schema()
