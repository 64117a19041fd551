"""Kinds of filter fields: what may stand behind an operator, and the SQL condition that it means.

Conditions are never NULL: `not` must find the jobs that lack the value. A value that cannot be meant raises `Unfit`.
"""

from __future__ import annotations

import difflib
import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

from sqlalchemy import ColumnElement, and_, exists, or_, true

from service.models import Job, JobTag, Series

Condition = ColumnElement[bool]
SAME, ORDER = (":", "=", "!="), ("<", "<=", ">", ">=")
_COMPARE: dict[str, Callable[[Any, Any], Condition]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|min|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d))?Z?)?")


class Unfit(ValueError):
    """A value or operator that a field cannot take. `suggestions` are what may have been meant."""

    def __init__(self, message: str, suggestions: Sequence[str] = ()):
        self.suggestions = list(suggestions)
        super().__init__(message)


def near(text: str, known: Sequence[str]) -> list[str]:
    """Up to three of the known words that look like this one."""
    return difflib.get_close_matches(text.lower(), known, n=3, cutoff=0.6)


@dataclass(frozen=True, kw_only=True)
class Field(ABC):
    """What lists filter by under one name. `sort`: lists sort by its column, too."""

    name: str
    help: str
    example: str
    kind: ClassVar[str]
    operators: ClassVar[tuple[str, ...]]
    choices: tuple[str, ...] = ()

    @abstractmethod
    def any_of(self, operator: Literal[":", "="], values: Sequence[str]) -> Condition:
        """That it is one of these."""

    def compared(self, operator: str, value: str) -> Condition:
        raise NotImplementedError

    @abstractmethod
    def present(self) -> Condition:
        """That there is a value."""


@dataclass(frozen=True, kw_only=True)
class ColumnField(Field):
    """A field that is a column, or an expression over columns, of jobs."""

    column: Any
    nullable: bool = False
    sort: type | None = None  # of its values, where lists sort by it

    def present(self) -> Condition:
        return self.column.is_not(None) if self.nullable else true()

    def _known(self, condition: Condition) -> Condition:
        return and_(self.column.is_not(None), condition) if self.nullable else condition


@dataclass(frozen=True, kw_only=True)
class Word(ColumnField):
    """Whole words, as they are written."""

    kind: ClassVar[str] = "word"
    operators: ClassVar[tuple[str, ...]] = SAME
    sort: type | None = str

    def any_of(self, operator: str, values: Sequence[str]) -> Condition:
        if self.choices:
            values = [chosen(value, self.choices) for value in values]
        return self._known(self.column.in_(values) if len(values) > 1 else self.column == values[0])


@dataclass(frozen=True, kw_only=True)
class Text(ColumnField):
    """`:` finds a part of the text in any case, `=` the whole text."""

    kind: ClassVar[str] = "text"
    operators: ClassVar[tuple[str, ...]] = SAME

    def any_of(self, operator: str, values: Sequence[str]) -> Condition:
        if operator == "=":
            return self._known(self.column.in_(values))
        return self._known(or_(*(self.column.icontains(value, autoescape=True) for value in values)))


@dataclass(frozen=True, kw_only=True)
class Number(ColumnField):
    """A number; `whole` where the column holds integers."""

    kind: ClassVar[str] = "number"
    operators: ClassVar[tuple[str, ...]] = (*SAME, *ORDER)
    whole: bool = True
    sort: type | None = int

    def any_of(self, operator: str, values: Sequence[str]) -> Condition:
        return self._known(self.column.in_([number(value, whole=self.whole) for value in values]))

    def compared(self, operator: str, value: str) -> Condition:
        return self._known(_COMPARE[operator](self.column, number(value, whole=self.whole)))


@dataclass(frozen=True, kw_only=True)
class Time(ColumnField):
    """A time (UTC) as precise as it is written: a day is the whole day, and `>` means after its end."""

    kind: ClassVar[str] = "time"
    operators: ClassVar[tuple[str, ...]] = (*SAME, *ORDER)
    sort: type | None = float

    def any_of(self, operator: str, values: Sequence[str]) -> Condition:
        spans = [moment(value) for value in values]
        return self._known(or_(*(and_(self.column >= begin, self.column < end) for begin, end in spans)))

    def compared(self, operator: str, value: str) -> Condition:
        begin, end = moment(value)
        limit = begin if operator in ("<", ">=") else end
        return self._known(self.column < limit if operator[0] == "<" else self.column >= limit)


@dataclass(frozen=True, kw_only=True)
class Span(ColumnField):
    """A length of time: `90s`, `15min`, `2h`, `7d`, `1w`. `since`: the one from the column's time until now."""

    kind: ClassVar[str] = "span"
    operators: ClassVar[tuple[str, ...]] = ORDER
    since: bool = False

    def any_of(self, operator: str, values: Sequence[str]) -> Condition:
        raise Unfit(f"{self.name} is compared by {', '.join(ORDER)}, as in {self.example}")

    def compared(self, operator: str, value: str) -> Condition:
        length = seconds(value)
        if not self.since:
            return self._known(_COMPARE[operator](self.column, length))
        turned = operator.translate(str.maketrans("<>", "><"))
        return self._known(_COMPARE[turned](self.column, time.time() - length))


@dataclass(frozen=True, kw_only=True)
class Method(Field):
    """The types of a job's methods; `none`: trained on labels alone."""

    kind: ClassVar[str] = "word"
    operators: ClassVar[tuple[str, ...]] = SAME

    def any_of(self, operator: str, values: Sequence[str]) -> Condition:
        names = [chosen(value, self.choices) for value in values]
        return or_(*(~self.present() if name == "none" else Job.methods.contains(f",{name},") for name in names))

    def present(self) -> Condition:
        return Job.methods != ","


@dataclass(frozen=True, kw_only=True)
class Tag(Field):
    """Words that people gave a job."""

    kind: ClassVar[str] = "word"
    operators: ClassVar[tuple[str, ...]] = SAME

    def any_of(self, operator: str, values: Sequence[str]) -> Condition:
        return exists().where(JobTag.job_id == Job.id, JobTag.tag.in_(values)).correlate(Job)

    def present(self) -> Condition:
        return exists().where(JobTag.job_id == Job.id).correlate(Job)


@dataclass(frozen=True, kw_only=True)
class Metric(Field):
    """The best or the last value of a metric. A job that never reported it has none."""

    kind: ClassVar[str] = "metric"
    operators: ClassVar[tuple[str, ...]] = (*SAME, *ORDER)
    key: str
    last: bool = False

    @property
    def column(self) -> Any:
        return Series.last_value if self.last else Series.best_value

    def any_of(self, operator: str, values: Sequence[str]) -> Condition:
        return self._where(self.column.in_([number(value) for value in values]))

    def compared(self, operator: str, value: str) -> Condition:
        return self._where(_COMPARE[operator](self.column, number(value)))

    def present(self) -> Condition:
        return self._where()

    def _where(self, *conditions: Condition) -> Condition:
        return exists().where(Series.job_id == Job.id, Series.key == self.key, *conditions).correlate(Job)


# ------------------------------------------------------------------------------------------------- values


def chosen(value: str, choices: Sequence[str]) -> str:
    """The choice that a word names, in any case."""
    if value.lower() in choices:
        return value.lower()
    raise Unfit(f"{value!r} is none of {', '.join(choices)}", near(value, choices))


def number(text: str, *, whole: bool = False) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise Unfit(f"{text!r} is no number; write one as 30 or 0.25")
    if whole and (value != int(value) or abs(value) >= 2**31):
        raise Unfit(f"{text!r} is no whole number below 2147483648")
    return int(value) if whole else value


def seconds(text: str) -> float:
    found = _SPAN.fullmatch(text)
    if not found:
        raise Unfit(f"{text!r} is no length of time; write one as 90s, 15min, 2h, 7d or 1w")
    return float(found[1]) * _SECONDS[found[2]]


def moment(text: str) -> tuple[float, float]:
    """Begin and end of what a day, a minute or a second names, in Unix seconds."""
    found = _TIME.fullmatch(text)
    try:
        if not found:
            raise ValueError
        begin = datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]
        length = timedelta(seconds=1) if found[6] else timedelta(minutes=1) if found[4] else timedelta(days=1)
        return begin.timestamp(), (begin + length).timestamp()
    except (ValueError, OverflowError):
        raise Unfit(f"{text!r} is no time; write one as 2026-11-01 or 2026-11-01T18:30 (UTC)") from None
