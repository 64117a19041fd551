"""Queries of lists: pages, counts and what belongs to the rows of a page. No decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.filters.kinds import Condition
from service.jobs.repository import FINAL
from service.lists.sorting import Order
from service.models import Evaluation, Job, Series
from service.paging import Value

_COLUMNS = (
    Job.id, Job.name, Job.project_id, Job.state, Job.cause, Job.wait_reason, Job.methods, Job.detector, Job.dataset,
    Job.seed, Job.teacher_job_id, Job.group, Job.priority, Job.step, Job.total_steps, Job.created_by, Job.created_at,
    Job.started_at, Job.ended_at,
)  # fmt: skip
_NEWEST = 200  # jobs whose metrics are offered for filters: those that people look at


def page(
    session: Session, me: Principal, condition: Condition, order: Order, *, after: Sequence[Value] | None, limit: int
) -> list[tuple[Row[Any], tuple[Value, ...]]]:
    """Up to `limit` rows behind a place, each with its own place."""
    rows: list[Row[Any]] = []
    for part in order.parts(select(*_COLUMNS).where(me.visible(Job.project_id), condition), after):
        rows += session.execute(part.limit(limit - len(rows)))
        if len(rows) == limit:
            break
    return [(row, tuple(row)[len(_COLUMNS) :]) for row in rows]


def counts(session: Session, me: Principal, condition: Condition) -> dict[str, int]:
    """How many jobs are in each state that any is in."""
    query = select(Job.state, func.count()).where(me.visible(Job.project_id), condition).group_by(Job.state)
    return dict(session.execute(query.order_by(Job.state)).all())


def final_scalars(session: Session, job_ids: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """AP, AP50 and so on of each final evaluation; not those by class."""
    query = select(Evaluation.job_id, Evaluation.results)
    rows = session.execute(query.where(Evaluation.job_id.in_(job_ids), Evaluation.name == FINAL))
    return {job_id: {key: value for key, value in results.items() if key.startswith("AP")} for job_id, results in rows}


def metric_keys(session: Session, me: Principal) -> list[str]:
    """The metrics of the newest jobs that have reported any and that the caller may look at."""
    reported = select(Series.id).where(Series.job_id == Job.id).exists()
    newest = select(Job.id).where(me.visible(Job.project_id), reported).order_by(Job.created_at.desc(), Job.id.desc())
    query = select(Series.key).where(Series.job_id.in_(newest.limit(_NEWEST).scalar_subquery())).distinct()
    return sorted(session.scalars(query))
