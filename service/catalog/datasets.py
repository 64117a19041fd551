"""Validation sets, known by the pictures that runs on them have stored: equal sets have one file."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bcd.storage import object_key
from service.access.principal import Principal
from service.catalog.schemas import DatasetOut, DatasetsOut
from service.models import Artifact, Job
from service.results.facts import facts_of

MOST, RUNS = 200, 100


def all_of(session: Session, me: Principal) -> DatasetsOut:
    """Those that the caller's projects use, the last used first, at most `MOST`."""
    last = func.max(Artifact.created_at)
    query = (
        select(Artifact.sha256, func.count(), last)
        .join(Job, Job.id == Artifact.job_id)
        .where(Artifact.type == "gallery", me.visible(Job.project_id))
        .group_by(Artifact.sha256)
        .order_by(last.desc(), Artifact.sha256)
        .limit(MOST)
    )
    return DatasetsOut(items=[_one(session, me, *row) for row in session.execute(query).all()])


def _one(session: Session, me: Principal, sha256: str, runs: int, last: float) -> DatasetOut:
    query = select(Job.id, Job.spec).join(Artifact, Artifact.job_id == Job.id)
    query = query.where(Artifact.key == object_key(sha256), Artifact.type == "gallery", me.visible(Job.project_id))
    newest = session.execute(query.order_by(Artifact.created_at.desc(), Job.id).limit(RUNS)).all()
    job_id, spec = newest[0]
    return DatasetOut(
        id=sha256[:16],
        type=spec["data"]["type"],
        where=spec["data"].get("root"),
        data_version=facts_of(session, [job_id]).get(job_id, {}).get("data_version"),
        runs=runs,
        last_used_at=last,
        job_ids=[row.id for row in newest],
    )
