"""Curves in few places: what lies in each bucket of x, over all points, computed in the database.

Buckets lie on a grid that is the same for everybody: multiples of a width that is a power of two, chosen from the
line's own extent. So a line's values never depend on what else is shown, and a zoom moves no bucket of the same width.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, select
from sqlalchemy.orm import Session, aliased

from service.models import Job, Point, Series
from service.results.schemas import CurvesQuery

Floats = NDArray[np.float64]
_NARROWEST = 2.0**-10  # seconds: workers do not report more often
_Query = Select[*tuple[Any, ...]]


class Member(NamedTuple):
    """One series that a line is made of."""

    id: int
    job_id: str
    points: int
    last_step: int


class Buckets(NamedTuple):
    """What lies in the buckets of one series, in the order of x."""

    number: Floats
    x: Floats
    last: Floats
    low: Floats
    high: Floats


class Drawn(NamedTuple):
    """A line's members with their buckets (those without any point are left out), and what it was made of."""

    width: float | None
    points: int
    members: list[Buckets]


class _Extent(NamedTuple):
    points: int
    low: float
    high: float


def draw(session: Session, lines: Sequence[Sequence[Member]], query: CurvesQuery) -> list[Drawn]:
    """The buckets of each line, which is given by its members. All members of a line share one width."""
    axis = _Axis(session, query)
    extents = axis.extents([member for line in lines for member in line])
    widths = [_width(query, [extents[m.id] for m in line if m.id in extents], alone=len(line) == 1) for line in lines]
    by_width: dict[float | None, list[int]] = defaultdict(list)
    for line, width in zip(lines, widths, strict=True):
        by_width[width] += [member.id for member in line if member.id in extents]
    found: dict[int, Buckets] = {}
    for width, ids in by_width.items():
        found |= axis.read(ids, width)
    return [
        Drawn(
            width=width,
            points=sum(extents[member.id].points for member in line if member.id in extents),
            members=[found[member.id] for member in line if member.id in found],
        )
        for line, width in zip(lines, widths, strict=True)
    ]


def _width(query: CurvesQuery, extents: Sequence[_Extent], *, alone: bool) -> float | None:
    """The narrowest power of two with which the line has few enough buckets; None: its points are few enough.

    Runs of a group meet in buckets: where x is the step, in single steps if these are few enough.
    """
    if not extents or (alone and extents[0].points <= query.buckets):
        return None
    span = max(extent.high for extent in extents) - min(extent.low for extent in extents)
    least = 1.0 if query.x == "step" else _NARROWEST
    # one less: the first bucket may begin before the line does
    return max(least, 2.0 ** math.ceil(math.log2(span / (query.buckets - 1)))) if span > 0 else least


class _Axis:
    """The x of points as SQL, and the queries over it."""

    def __init__(self, session: Session, query: CurvesQuery):
        self._session, self._query = session, query
        self._sqlite = session.get_bind().dialect.name == "sqlite"

    def extents(self, members: Iterable[Member]) -> dict[int, _Extent]:
        """How many points of each series are asked for, and from where to where; series without any are left out."""
        query, members = self._query, list(members)
        if query.x == "step" and query.begin is None and query.end is None:
            return {one.id: _Extent(one.points, 0, one.last_step) for one in members if one.points}
        x = self._x()
        wanted = select(Point.series_id, func.count(), func.min(x), func.max(x)).group_by(Point.series_id)
        rows = self._session.execute(self._of(wanted, [one.id for one in members]))
        return {id: _Extent(count, low, high) for id, count, low, high in rows}

    def read(self, ids: Sequence[int], width: float | None) -> dict[int, Buckets]:
        """The buckets of these series; without a width each point by itself."""
        x = self._x()
        if width is None:
            plain = select(Point.series_id, x, x, Point.value, Point.value, Point.value)
            rows = self._session.execute(self._of(plain, ids).order_by(Point.series_id, x, Point.step))
        else:
            rows = self._session.execute(self._buckets(ids, width))
        return _by_series([tuple(row) for row in rows])

    def _buckets(self, ids: Sequence[int], width: float) -> _Query:
        x = self._x()
        number = self._number(x, width)
        each = select(
            Point.series_id, number.label("number"), func.max(x).label("x"), func.max(Point.step).label("step"),
            func.min(Point.value).label("low"), func.max(Point.value).label("high"),
        ).group_by(Point.series_id, number)  # fmt: skip
        bucket = self._of(each, ids).subquery()
        # Found one by one by their key: as a join, planners that misjudge the buckets read the whole table.
        there = aliased(Point)
        last = select(there.value).where(there.series_id == bucket.c.series_id, there.step == bucket.c.step)
        found = select(
            bucket.c.series_id, bucket.c.number, bucket.c.x, last.scalar_subquery(), bucket.c.low, bucket.c.high
        )
        return found.order_by(bucket.c.series_id, bucket.c.number)

    def _of(self, query: _Query, ids: Sequence[int]) -> _Query:
        """The query over the points of these series that lie in the part of x that is asked for."""
        query = query.select_from(Point).where(Point.series_id.in_(ids))
        if self._query.x == "relative_time":
            query = query.join(Series, Series.id == Point.series_id).join(Job, Job.id == Series.job_id)
        x = self._x()
        if self._query.begin is not None:
            query = query.where(x >= self._limit(math.ceil, self._query.begin))
        if self._query.end is not None:
            query = query.where(x <= self._limit(math.floor, self._query.end))
        return query

    def _limit(self, towards: Any, limit: float) -> float:
        """A limit that the column's type can hold: steps are 32-bit integers."""
        return max(-1, min(towards(limit), 2**31 - 1)) if self._query.x == "step" else limit

    def _x(self) -> Any:
        since_start = Point.time - func.coalesce(Job.started_at, Job.created_at)
        return {"step": Point.step, "time": Point.time, "relative_time": since_start}[self._query.x]

    def _number(self, x: Any, width: float) -> ColumnElement[Any]:
        if self._query.x == "step":
            return x // int(width)  # type: ignore[no-any-return]
        return cast(x / width, BigInteger) if self._sqlite else func.floor(x / width)


def _by_series(rows: Sequence[tuple[Any, ...]]) -> dict[int, Buckets]:
    """Rows in the order of series id, cut into series."""
    if not rows:
        return {}
    whole = np.array(rows, np.float64)
    ids = whole[:, 0]
    cuts = [0, *(np.flatnonzero(np.diff(ids)) + 1), len(ids)]
    return {int(ids[a]): Buckets(*whole[a:b, 1:].T) for a, b in pairwise(cuts)}
