"""Reading a job's log. Ids of its lines grow in the order of their arrival: they are stored under the job's lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.errors import Problem
from service.jobs import repository
from service.jobs.service import existing
from service.logs.schemas import LogLineOut, LogsOut
from service.models import TERMINAL, Attempt, Job, LogLine

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
BATCH = 1000


@dataclass(frozen=True)
class Wanted:
    """Which lines of a job: of one attempt (its number), of this level or above, holding a text in any case."""

    job_id: str
    attempt: int | None = None
    level: Level = "debug"
    text: str | None = None


def check(session: Session, me: Principal, wanted: Wanted) -> None:
    """Raises `Problem` 404 where there is no such job, or it has no such attempt."""
    existing(session, me, wanted.job_id)
    if wanted.attempt is not None and session.scalar(_attempts(wanted)) is None:
        raise Problem(404, f"job {wanted.job_id} has no attempt {wanted.attempt}")


def visible(session: Session, me: Principal, wanted: Wanted) -> bool:
    """Whether the caller may look at the job."""
    return repository.get(session, me, wanted.job_id) is not None


def forward(session: Session, wanted: Wanted, *, after: int, limit: int) -> LogsOut:
    """Up to `limit` lines behind the line `after`."""
    lines = _read(session, wanted, LogLine.id > after, LogLine.id.asc(), limit)
    return LogsOut(
        lines=lines, next=lines[-1].id if lines else after, previous=lines[0].id if lines and after else None
    )


def backward(session: Session, wanted: Wanted, *, before: int | None, limit: int) -> LogsOut:
    """The last `limit` lines before the line `before` (None: the last of all), in their order."""
    older = LogLine.id < before if before is not None else LogLine.id > 0
    lines = _read(session, wanted, older, LogLine.id.desc(), limit + 1)
    more, lines = len(lines) > limit, lines[:limit][::-1]
    end = lines[-1].id if lines else max(0, (before or 1) - 1)
    return LogsOut(lines=lines, next=end, previous=lines[0].id if more else None)


@dataclass(frozen=True)
class News:
    """What a follower gets: lines, the place from which to go on, and the job's state once nothing more can come."""

    lines: list[LogLineOut]
    place: int
    ended: str | None
    more: bool


def news(session: Session, wanted: Wanted, *, after: int) -> News:
    """Lines behind the line `after`. Lines that do not fit are passed over once, not looked at again and again."""
    state = session.scalar(select(Job.state).where(Job.id == wanted.job_id))  # first: a job ends after its last line
    newest = session.scalar(select(func.max(LogLine.id)).where(LogLine.job_id == wanted.job_id)) or 0
    span = (LogLine.id > after) & (LogLine.id <= newest)
    lines = _read(session, wanted, span, LogLine.id.asc(), BATCH) if newest > after else []
    more = len(lines) == BATCH
    place = lines[-1].id if more else max(after, newest)
    return News(lines, place, state if state in TERMINAL and not more else None, more)


def _read(session: Session, wanted: Wanted, span: ColumnElement[bool], order: Any, limit: int) -> list[LogLineOut]:
    query = (
        select(LogLine.id, LogLine.time, LogLine.level, LogLine.text, Attempt.number.label("attempt"))
        .join(Attempt, Attempt.id == LogLine.attempt_id)
        .where(LogLine.job_id == wanted.job_id, span, *_conditions(wanted))
        .order_by(order)
        .limit(limit)
    )
    return [LogLineOut.model_validate(row._mapping) for row in session.execute(query)]


def _conditions(wanted: Wanted) -> Sequence[ColumnElement[bool]]:
    out: list[ColumnElement[bool]] = []
    if wanted.attempt is not None:
        out.append(LogLine.attempt_id == _attempts(wanted).scalar_subquery())
    if wanted.level != LEVELS[0]:
        out.append(LogLine.level.in_(LEVELS[LEVELS.index(wanted.level) :]))
    if wanted.text:
        out.append(LogLine.text.icontains(wanted.text, autoescape=True))
    return out


def _attempts(wanted: Wanted) -> Any:
    return select(Attempt.id).where(Attempt.job_id == wanted.job_id, Attempt.number == wanted.attempt)
