"""HTTP route of the mirror: where a job is in MLflow."""

from __future__ import annotations

from fastapi import APIRouter

from service.access.principal import Me
from service.deps import Config, Db
from service.jobs.service import existing as existing_job
from service.mirror.schemas import MirrorOut, mirror_out
from service.models import Mirror

router = APIRouter(tags=["mlflow"])


@router.get("/jobs/{job_id}/mlflow", summary="Where the job is in MLflow, and whether its copy is complete")
def get_mirror(db: Db, me: Me, settings: Config, job_id: str) -> MirrorOut:
    with db.read() as session:
        existing_job(session, me, job_id)
        return mirror_out(settings, session.get(Mirror, job_id))
