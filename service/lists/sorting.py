"""Orders of the list of jobs: what `sort=-best.AP,name` means, and which rows lie behind a place in it.

Rows without the value come last in either direction. The id decides between equals, so every order is total.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, false, null, or_, tuple_
from sqlalchemy.orm import aliased

from service.errors import Problem
from service.filters.fields import metric, sortable
from service.filters.kinds import near
from service.models import Job, Series
from service.paging import Value

DEFAULT = "-created"
MAX_KEYS = 3
SORTABLE = sortable()
_Query = Select[*tuple[Any, ...]]


@dataclass(frozen=True)
class Key:
    """One sort key: a column of jobs, or a metric's best or last, which is a column of the joined `series`."""

    name: str
    descending: bool
    type: type
    nullable: bool
    expression: Any
    series: Any = None
    metric: str | None = None

    @property
    def joined(self) -> ColumnElement[bool]:
        return and_(self.series.job_id == Job.id, self.series.key == self.metric)

    def sorted(self) -> ColumnElement[Any]:
        ordered: ColumnElement[Any] = self.expression.desc() if self.descending else self.expression.asc()
        return ordered.nulls_last() if self.nullable else ordered

    def beyond(self, value: Value) -> ColumnElement[bool]:
        if value is None:
            return false()  # nothing comes after those without a value
        after: ColumnElement[bool] = self.expression < value if self.descending else self.expression > value
        return or_(after, self.expression.is_(None)) if self.nullable else after

    def level(self, value: Value) -> ColumnElement[bool]:
        same: ColumnElement[bool] = self.expression.is_(None) if value is None else self.expression == value
        return same


@dataclass(frozen=True)
class Order:
    """A total order of jobs."""

    keys: tuple[Key, ...]

    @property
    def name(self) -> str:
        """The order as it is written; equal orders have one name."""
        return ",".join(("-" if key.descending else "") + key.name for key in self.keys)

    @property
    def metrics(self) -> list[str]:
        return [key.metric for key in self.keys if key.metric is not None]

    @property
    def types(self) -> list[tuple[type, bool]]:
        """Types of the values of a place: those of the keys, and the id."""
        return [*((key.type, key.nullable) for key in self.keys), (str, False)]

    def parts(self, query: _Query, after: Sequence[Value] | None) -> Iterator[_Query]:
        """The query in this order, as one or two selects to be read one behind the other.

        The rows that have the first key's value come from its index; those that lack it follow by themselves. Each
        row ends with its place. `after`: only what lies behind this place.
        """
        first, *rest = self.keys
        direction = self.keys[-1].descending
        if not first.nullable:
            yield _ordered(query, [*self.keys, _id(direction)], after)
            return
        if after is None or after[0] is not None:
            having = replace(first, nullable=False)
            # The series' own job id ends its index: with it the index alone gives the order.
            last = _id(direction, first.series.job_id if first.metric and not rest else Job.id)
            found = (
                query.join(first.series, first.joined) if first.metric else query.where(first.expression.is_not(None))
            )
            yield _ordered(found, [having, *rest, last], after)
        lacking = replace(first, expression=null(), series=None)
        none = ~exists().where(first.joined).correlate(Job) if first.metric else first.level(None)
        behind = after[1:] if after is not None and after[0] is None else None
        yield _ordered(query.where(none), [*rest, _id(direction)], behind, lacking)


def parse_sort(text: str) -> Order:
    """The order that `-best.AP,name` means. Raises `Problem` 422."""
    keys: list[Key] = []
    for part in text.split(","):
        key = _key(part.strip())
        if key.name in {one.name for one in keys}:
            raise _fault(f"{key.name} is given twice")
        keys.append(key)
    if len(keys) > MAX_KEYS:
        raise _fault(f"at most {MAX_KEYS} keys are sorted by, and {len(keys)} are given")
    return Order(tuple(keys))


def _key(text: str) -> Key:
    descending, name = text.startswith("-"), text.lstrip("+-")
    column = SORTABLE.get(name.lower())
    if column is not None and column.sort is not None:
        return Key(column.name, descending, column.sort, column.nullable, column.column)
    one = metric(name)
    if one is None:
        known = [*SORTABLE, "best.AP", "last.loss"]
        hint = near(name, known) or known
        raise _fault(
            f"{name[:60]!r} cannot be sorted by; use {', '.join(hint)} or another metric as best.KEY, last.KEY"
        )
    series = aliased(Series)
    value = series.last_value if one.last else series.best_value
    return Key(one.name, descending, float, True, value, series, one.key)


def _fault(message: str) -> Problem:
    return Problem(422, f"sort: {message}", errors=[("?sort", message)])


def _id(descending: bool, column: Any = Job.id) -> Key:
    return Key("id", descending, str, False, column)


def _ordered(query: _Query, keys: Sequence[Key], after: Sequence[Value] | None, *lacking: Key) -> _Query:
    """`query` by these keys, behind the place; every row's place (with the lacking keys first) behind its columns."""
    for key in keys:
        if key.series is not None and key.nullable:
            query = query.outerjoin(key.series, key.joined)
    if after is not None:
        query = query.where(_behind(keys, after))
    return query.add_columns(*(key.expression for key in (*lacking, *keys))).order_by(*(key.sorted() for key in keys))


def _behind(keys: Sequence[Key], after: Sequence[Value]) -> ColumnElement[bool]:
    if not any(key.nullable for key in keys) and len({key.descending for key in keys}) == 1:
        # one comparison of rows: the index begins right there
        mine, place = tuple_(*(key.expression for key in keys)), tuple_(*after)
        return mine < place if keys[0].descending else mine > place
    ways = [
        and_(*(one.level(value) for one, value in zip(keys[:i], after, strict=False)), key.beyond(after[i]))
        for i, key in enumerate(keys)
    ]
    return or_(*ways)
