"""Writes generated rows into a new installation, and only there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, insert, select, text

from service.access.first import ensure_first
from service.auth import ensure_secrets
from service.db import Database
from service.migrations import upgrade
from service.models import GENERATED, Attempt, Evaluation, Event, Job, JobTag, Point, Project, Series, Sweep, Trial
from service.seed.rows import Maker, Rows, comparison, studies
from service.seed.sweep import sweep
from service.settings import Settings

COMPARED = "generated many"  # the group of the large comparison
_AT_ONCE = 20_000  # points of one statement
TELL_EVERY = 3.0  # seconds


class NotEmpty(Exception):
    """The installation has jobs already: generated ones are never put among real ones."""


@dataclass(frozen=True)
class Size:
    """How much is generated."""

    jobs: int = 5000
    runs: int = 100  # of the large comparison
    points: int = 10_000  # of each of their curves
    trials: int = 200


def seed(settings: Settings, size: Size, tell: Callable[[str], None]) -> dict[str, int]:
    """Fill a new installation, all or nothing. Returns the number of rows by table. Raises `NotEmpty`."""
    ensure_secrets(settings)
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    try:
        ensure_first(database, settings)
        with database.write() as session:
            if session.scalar(select(Job.id).limit(1)) is not None:
                raise NotEmpty
            about = "Generated data: nothing here was ever trained"
            session.add(Project(id=GENERATED, description=about, created_at=time.time()))
            session.flush()
            counts = _write(session.connection(), size, tell)
            if not database.is_sqlite:
                session.execute(text("SELECT setval('series_id_seq', (SELECT max(id) FROM series))"))
    finally:
        database.close()
    return counts


def _write(connection: Connection, size: Size, tell: Callable[[str], None]) -> dict[str, int]:
    maker, told, begun = Maker(points=60), time.monotonic(), time.monotonic()
    counts: dict[str, int] = {}
    for rows, sweeps, trials in _all(maker, size):
        for table, some in (
            (Job, rows.jobs), (JobTag, rows.tags), (Attempt, rows.attempts), (Event, rows.events),
            (Series, rows.series), (Evaluation, rows.evaluations), (Sweep, sweeps), (Trial, trials),
        ):  # fmt: skip
            if some:
                # Under the names of their attributes, as classes take them.
                connection.execute(_insert(table), [_named(table, row) for row in some])
                counts[table.__tablename__] = counts.get(table.__tablename__, 0) + len(some)
        counts["points"] = counts.get("points", 0) + _points(connection, rows)
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic()
            tell(f"{counts['jobs']:,} jobs, {counts['points']:,} points after {told - begun:.0f} s")
    return counts


def _all(maker: Maker, size: Size) -> Iterator[tuple[Rows, list[dict[str, Any]], list[dict[str, Any]]]]:
    for rows in studies(maker, size.jobs):
        yield rows, [], []
    for rows in comparison(maker, size.runs, size.points, COMPARED):
        yield rows, [], []
    if size.trials:
        yield from sweep(maker, size.trials)


def _insert(table: Any) -> Any:
    return insert(table.__table__)


def _named(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    """A row by the names of columns: `group` is `group_name`."""
    names = {attribute.key: attribute.columns[0].name for attribute in table.__mapper__.column_attrs}
    return {names[key]: value for key, value in row.items()}


def _points(connection: Connection, rows: Rows) -> int:
    table: Table = Point.__table__  # type: ignore[assignment]
    pending: list[dict[str, Any]] = []
    count = 0

    def flush() -> None:
        nonlocal count
        if pending:
            connection.execute(insert(table), pending)
            count += len(pending)
            pending.clear()

    for series_id, at, values, started, second in rows.points:
        for step, value in zip(at.tolist(), values.tolist(), strict=True):
            pending.append(
                {"series_id": series_id, "step": step, "attempt": 1, "value": value, "time": started + step * second}
            )
        if len(pending) >= _AT_ONCE:
            flush()
    flush()
    return count
