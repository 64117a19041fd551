"""HTTP routes for those who watch the service: is it up, is it ready, its figures."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from service.access.principal import Me
from service.deps import Config, Db
from service.errors import Problem
from service.health import readiness

router = APIRouter(tags=["service"])


class CheckOut(BaseModel):
    name: str
    ok: bool
    detail: str
    required: bool = Field(description="Whether the process is not ready without it.")


class ReadyOut(BaseModel):
    ready: bool
    checks: list[CheckOut]


@router.get("/healthz", summary="Is the process up?")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", summary="Can it serve? 503 where not", responses={503: {"model": ReadyOut}})
def readyz(settings: Config, db: Db, response: Response) -> ReadyOut:
    found = readiness.checks(settings, db)
    ready = all(check.ok for check in found if check.required)
    response.status_code = 200 if ready else 503
    return ReadyOut(ready=ready, checks=[CheckOut(**vars(check)) for check in found])


@router.get("/metrics", summary="Figures in Prometheus' text format (a token of an administrator, scope read)")
def metrics(request: Request, me: Me) -> Response:
    if not me.is_admin or me.only_project is not None:
        raise Problem(403, "figures of the whole installation are for its administrators; scope read suffices")
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
