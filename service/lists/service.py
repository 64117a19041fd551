"""What lists answer: a page of rows, counts by state, the fields of the filter language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, and_, true
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.filters import Filter
from service.filters.fields import FIELDS
from service.filters.kinds import Condition
from service.jobs.repository import tags_of
from service.lists import repository
from service.lists.schemas import FilterField, FilterFields, JobCounts, JobPage, JobRow
from service.lists.sorting import SORTABLE, Order
from service.models import Job, JobState
from service.paging import decode_cursor, digest_of, encode_cursor
from service.results.schemas import Summary
from service.results.summaries import summaries


def page(
    session: Session, me: Principal, wanted: Filter, states: Sequence[JobState], order: Order, *,
    metrics: Sequence[str], limit: int, cursor: str | None,
) -> JobPage:  # fmt: skip
    """A page of the jobs that pass. Raises `Problem` 422 for a cursor of another list."""
    name = digest_of(wanted.text, sorted(states), order.name)
    after = decode_cursor(cursor, order.types, of=name) if cursor is not None else None
    found = repository.page(session, me, _passing(wanted, states), order, after=after, limit=limit + 1)
    rows, more = [row for row, _ in found[:limit]], len(found) > limit
    return JobPage(
        items=_shown(session, rows, [*metrics, *order.metrics]),
        next_cursor=encode_cursor(found[limit - 1][1], of=name) if more else None,
    )


def counts(session: Session, me: Principal, wanted: Filter, states: Sequence[JobState]) -> JobCounts:
    """How many jobs pass, by state."""
    by_state = repository.counts(session, me, _passing(wanted, states))
    return JobCounts(total=sum(by_state.values()), by_state=by_state)


def filter_fields(session: Session, me: Principal) -> FilterFields:
    """All that filters and orders understand."""
    fields = [
        FilterField(
            name=one.name, kind=one.kind, operators=list(one.operators), choices=list(one.choices),
            sortable=one.name in SORTABLE, help=one.help, example=one.example,
        )
        for one in FIELDS.values()
    ]  # fmt: skip
    return FilterFields(fields=fields, metrics=repository.metric_keys(session, me))


def _passing(wanted: Filter, states: Sequence[JobState]) -> Condition:
    given = Job.state.in_([state.value for state in states]) if states else true()
    return and_(given, wanted.condition())


def _shown(session: Session, rows: Sequence[Row[Any]], keys: Sequence[str]) -> list[JobRow]:
    ids = [row.id for row in rows]
    tags, finals = tags_of(session, ids), repository.final_scalars(session, ids)
    metrics = summaries(session, ids, keys)
    return [_row(row, tags[row.id], finals.get(row.id), metrics[row.id]) for row in rows]


def _row(row: Row[Any], tags: list[str], final: dict[str, float | None] | None, metrics: dict[str, Summary]) -> JobRow:
    return JobRow(
        id=row.id,
        name=row.name,
        project=row.project_id,
        state=row.state,
        cause=row.cause,
        wait_reason=row.wait_reason,
        methods=[name for name in row.methods.split(",") if name],
        detector=row.detector,
        dataset=row.dataset,
        seed=row.seed,
        teacher_job_id=row.teacher_job_id,
        group=row.group,
        tags=tags,
        priority=row.priority,
        step=row.step,
        total_steps=row.total_steps,
        created_by=row.created_by,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        evaluation=final,
        metrics=metrics,
    )
