"""What is answered about the series of several runs: curves, averaged where asked, and tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.models import Job, Series
from service.results.curves import Drawn, Member, draw
from service.results.groups import averaged, shared
from service.results.schemas import Curve, CurvesOut, CurvesQuery, TableOut, TableRow
from service.results.summaries import summaries


def visible(session: Session, me: Principal, run_ids: Sequence[str]) -> list[str]:
    """Those of the runs that are there and that the caller may look at, each once, in the order that was asked for."""
    there = set(session.scalars(select(Job.id).where(Job.id.in_(run_ids), me.visible(Job.project_id))))
    return [id for id in dict.fromkeys(run_ids) if id in there]


def table(session: Session, asked: Sequence[str], run_ids: Sequence[str], keys: Sequence[str]) -> TableOut:
    """The summaries of some metrics of the visible ones of the runs that were asked for."""
    found = summaries(session, run_ids, keys)
    rows = [TableRow(run=id, metrics=found[id]) for id in run_ids]
    return TableOut(rows=rows, missing=_missing(asked, run_ids))


def curves(session: Session, run_ids: Sequence[str], query: CurvesQuery) -> CurvesOut:
    """The lines of the visible ones of the runs that were asked for, by metric and then in the order of the runs."""
    members: dict[tuple[str, str], list[Member]] = defaultdict(list)  # by metric and group (or run)
    grouped = query.group != "none"
    names = _names(session, run_ids, query.group) if grouped else {id: id for id in run_ids}
    place = {id: i for i, id in enumerate(run_ids)}
    columns = (Series.key, Series.id, Series.job_id, Series.count.label("points"), Series.last_step)
    rows = session.execute(select(*columns).where(Series.job_id.in_(run_ids), Series.key.in_(query.metrics)))
    metrics = {key: i for i, key in enumerate(query.metrics)}
    for row in sorted(rows, key=lambda row: (metrics[row.key], place[row.job_id])):
        members[row.key, names[row.job_id]].append(Member(row.id, row.job_id, row.points, row.last_step))
    drawn = draw(session, list(members.values()), query)
    lines = [
        _line(key, name if grouped else None, some, one)
        for ((key, name), some), one in zip(members.items(), drawn, strict=True)
        if one.members
    ]
    return CurvesOut(x=query.x, lines=lines, missing=_missing(query.runs, run_ids))


def _missing(asked: Sequence[str], run_ids: Sequence[str]) -> list[str]:
    there = set(run_ids)
    return [id for id in dict.fromkeys(asked) if id not in there]


def _names(session: Session, run_ids: Sequence[str], grouping: str) -> dict[str, str]:
    columns: list[Any] = [
        Job.id, Job.methods, Job.detector, Job.dataset, Job.seed, Job.group, Job.project_id, Job.teacher_job_id,
        *([Job.spec] if grouping == "spec" else []),
    ]  # fmt: skip
    rows: Sequence[Row[Any]] = session.execute(select(*columns).where(Job.id.in_(run_ids))).all()
    return {row.id: shared(grouping, row) for row in rows}


def _line(key: str, group: str | None, members: Sequence[Member], drawn: Drawn) -> Curve:
    said: dict[str, Any] = {"metric": key, "group": group, "points": drawn.points, "width": drawn.width}
    if group is None:
        one = drawn.members[0]
        values = {"last": one.last.tolist(), "min": one.low.tolist(), "max": one.high.tolist()}
        return Curve(**said, runs=[members[0].job_id], x=one.x.tolist(), **values)
    over = averaged(drawn.members)
    return Curve(
        **said, runs=[member.job_id for member in members], x=over.x.tolist(), last=None, min=over.low.tolist(),
        max=over.high.tolist(), mean=over.mean.tolist(), std=over.std, n=over.n.tolist(),
    )  # fmt: skip
