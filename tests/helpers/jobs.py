"""Jobs and series put straight into the database: many, and with any values, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from service.models import DEFAULT_PROJECT, Job, JobTag, Project, new_id
from service.results.metrics import Value, store


def add_job(
    session: Session, *, tags: Iterable[str] = (), metrics: Mapping[str, float] | None = None, **columns: Any
) -> str:
    """A job with these columns; `metrics`: one value of each at step 1. Returns its id."""
    project = columns.get("project_id", DEFAULT_PROJECT)
    if session.get(Project, project) is None:
        session.add(Project(id=project, created_at=0.0))
    values: dict[str, Any] = {
        "id": new_id("job"), "name": "run", "spec": {"name": "run", "seed": 0}, "state": "succeeded",
        "request_hash": "0", "total_steps": 100, "created_at": 1000.0, "methods": ",", "detector": "gfl-tiny-8",
        "dataset": "voc", **columns,
    }  # fmt: skip
    session.add(Job(**values))
    session.flush()
    session.add_all(JobTag(job_id=values["id"], tag=tag) for tag in tags)
    add_points(session, values["id"], {key: [(1, value, 1000.0)] for key, value in (metrics or {}).items()})
    return str(values["id"])


def add_points(
    session: Session, job_id: str, points: Mapping[str, Iterable[tuple[int, float, float]]], *, attempt: int = 1
) -> None:
    """Series of a job, as (step, value, time)."""
    store(session, job_id, attempt, {(key, step): Value(v, t) for key, some in points.items() for step, v, t in some})
    session.flush()
