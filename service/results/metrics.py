"""Storing and reading series: the only place that writes `series` and `points`, so summaries match the points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import func, insert, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from bcd.sweep.spec import COSTS
from service.models import Point, Series

TAKEN_OVER = 0  # in place of an attempt's number, on points that an earlier job reported


class Value(NamedTuple):
    """One reported scalar; `time` in Unix seconds."""

    value: float
    time: float


def lower_is_better(key: str) -> bool:
    """Whether the best value of a metric is its smallest: losses, costs. Of all others (AP, images/s) the largest."""
    return key.startswith("loss") or key in COSTS


def store(session: Session, job_id: str, attempt: int, values: Mapping[tuple[str, int], Value]) -> None:
    """Write scalars given by (key, step), over what was reported for them before, and bring summaries up to date.

    The caller holds the job's lock and commits.
    """
    if not values:
        return
    by_key: dict[str, dict[int, float]] = {}
    for (key, step), one in values.items():
        by_key.setdefault(key, {})[step] = one.value
    known = {
        row.key: row
        for row in session.scalars(select(Series).where(Series.job_id == job_id, Series.key.in_(list(by_key))))
    }
    redone = {key for key, steps in by_key.items() if key in known and min(steps) <= known[key].last_step}
    for key, steps in by_key.items():
        if key not in known:
            known[key] = Series(job_id=job_id, key=key, count=0, last_step=-1, last_value=0, best_step=-1, best_value=0)
            session.add(known[key])
        if key not in redone:
            _extend(known[key], steps)
    session.flush()
    _upsert(
        session,
        [
            {"series_id": known[key].id, "step": step, "attempt": attempt, "value": one.value, "time": one.time}
            for (key, step), one in values.items()
        ],
    )
    for key in redone:
        _summarize_anew(session, known[key])


def best_steps(session: Session, job_id: str, key: str, count: int) -> Sequence[int]:
    """The steps of a series' best values, the best first; of equal ones the earlier."""
    order = Point.value if lower_is_better(key) else Point.value.desc()
    query = select(Point.step).join(Series, Series.id == Point.series_id)
    query = query.where(Series.job_id == job_id, Series.key == key)
    return session.scalars(query.order_by(order, Point.step).limit(count)).all()


def take_over(session: Session, from_job: str, to_job: str, *, through: int) -> None:
    """Begin the series of a job with what another one reported up to a step. The caller commits."""
    early = select(Point.step).where(Point.series_id == Series.id, Point.step <= through).exists()
    for old in session.scalars(select(Series).where(Series.job_id == from_job, early)).all():
        series = Series(job_id=to_job, key=old.key, count=0, last_step=-1, last_value=0, best_step=-1, best_value=0)
        session.add(series)
        session.flush()
        columns = [Point.series_id, Point.step, Point.attempt, Point.value, Point.time]
        points = select(literal(series.id), Point.step, literal(TAKEN_OVER), Point.value, Point.time)
        points = points.where(Point.series_id == old.id, Point.step <= through)
        session.execute(insert(Point).from_select(columns, points))
        _summarize_anew(session, series)


def read(
    session: Session, job_id: str, *, keys: Sequence[str] = (), after_step: int | None = None
) -> Iterable[tuple[str, int, float, float]]:
    """(key, step, value, time) ordered by key and step; `keys` and `after_step` leave out the rest."""
    query = (
        select(Series.key, Point.step, Point.value, Point.time)
        .join(Point, Point.series_id == Series.id)
        .where(Series.job_id == job_id)
    )
    if keys:
        query = query.where(Series.key.in_(keys))
    if after_step is not None:
        query = query.where(Point.step > after_step)
    rows = session.execute(query.order_by(Series.key, Point.step))
    return ((key, step, value, moment) for key, step, value, moment in rows)


def _extend(series: Series, steps: Mapping[int, float]) -> None:
    """Take later steps into a summary."""
    sign = -1.0 if lower_is_better(series.key) else 1.0
    for step in sorted(steps):
        if series.count == 0 or sign * steps[step] > sign * series.best_value:
            series.best_step, series.best_value = step, steps[step]
        series.last_step, series.last_value = step, steps[step]
        series.count += 1


def _summarize_anew(session: Session, series: Series) -> None:
    """After steps were written over: what was the best may be gone."""
    mine = select(Point.step, Point.value).where(Point.series_id == series.id)
    order = Point.value if lower_is_better(series.key) else Point.value.desc()
    best = session.execute(mine.order_by(order, Point.step).limit(1)).one()
    last = session.execute(mine.order_by(Point.step.desc()).limit(1)).one()
    series.best_step, series.best_value = best.step, best.value
    series.last_step, series.last_value = last.step, last.value
    series.count = session.scalar(select(func.count()).where(Point.series_id == series.id)) or 0


def _upsert(session: Session, rows: Sequence[dict[str, object]]) -> None:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Point)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["series_id", "step"],
        set_={"value": new.value, "time": new.time, "attempt": new.attempt},
    )
    session.connection().execute(statement, rows)
