"""Which cells of a table are there, and what its rows say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from bcd.spec import parse_spec
from service.compare import stats
from service.jobs.repository import FINAL
from service.models import TERMINAL, Evaluation, Job, JobState
from service.models import Manifest as Row
from service.tables.manifest import Cell, Manifest, cells, digest_of
from service.tables.schemas import CellOut, CellState, Reproduced, ResultTableOut, RowOut, TableSummary

_BETTER: Sequence[CellState] = ("done", "under way", "failed")


def group_of(name: str) -> str:
    """The group of a table's jobs."""
    return f"table {name}"


def summary(row: Row) -> TableSummary:
    return TableSummary(
        id=row.id,
        project=row.project_id,
        name=row.name,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def table_out(session: Session, row: Row) -> ResultTableOut:
    """A table as it stands."""
    manifest = Manifest.model_validate(row.content)
    found = find_cells(session, row, manifest)
    counts = Counter(cell.state for cell in found)
    return ResultTableOut(
        **summary(row).model_dump(),
        manifest=row.content,
        metric=manifest.metric,
        tolerance=manifest.tolerance,
        group=group_of(row.name),
        counts={state: counts[state] for state in get_args(CellState)},
        cells=found,
        rows=_rows(manifest, found),
    )


def find_cells(session: Session, row: Row, manifest: Manifest) -> list[CellOut]:
    """Each cell with the job that fills it: of several the best one, of those equally good the newest."""
    query = select(Job).where(Job.project_id == row.project_id, Job.group == group_of(row.name))
    by_cell: dict[tuple[str, int], list[Job]] = defaultdict(list)
    for job in session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc())):
        by_cell[job.name, job.seed].append(job)
    wanted = list(cells(manifest))
    chosen = [_chosen(cell, by_cell[cell.spec.name, cell.seed]) for cell in wanted]
    values = _values(session, [job.id for job, state in chosen if job is not None and state == "done"], manifest.metric)
    return [
        CellOut(
            student=cell.student,
            method=cell.method,
            seed=cell.seed,
            state=state,
            job_id=job.id if job is not None else None,
            value=values.get(job.id) if job is not None else None,
            cause=job.cause if job is not None and state == "failed" else None,
        )
        for cell, (job, state) in zip(wanted, chosen, strict=True)
    ]


def _chosen(cell: Cell, jobs: Sequence[Job]) -> tuple[Job | None, CellState]:
    same = [(job, _state(job)) for job in jobs if digest_of(parse_spec(job.spec)) == cell.digest]
    if same:
        return min(same, key=lambda one: _BETTER.index(one[1]))
    return (jobs[0], "stale") if jobs else (None, "missing")


def _state(job: Job) -> CellState:
    if job.state == JobState.SUCCEEDED:
        return "done"
    return "failed" if job.state in TERMINAL else "under way"


def _values(session: Session, job_ids: Sequence[str], metric: str) -> dict[str, float]:
    query = select(Evaluation.job_id, Evaluation.results)
    rows = session.execute(query.where(Evaluation.job_id.in_(job_ids), Evaluation.name == FINAL))
    return {job_id: results[metric] for job_id, results in rows if results.get(metric) is not None}


def _rows(manifest: Manifest, found: Sequence[CellOut]) -> list[RowOut]:
    by_row: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for cell in found:
        if cell.value is not None:
            by_row[cell.student, cell.method][cell.seed] = cell.value
    plain = next((method for method, blocks in manifest.methods.items() if not blocks), None)
    out = []
    for student in manifest.students:
        published = manifest.published.get(student, {})
        for method in manifest.methods:
            mine = by_row[student, method]
            alone = by_row[student, plain] if plain else {}
            out.append(_row(manifest, student, method, mine, alone, published, plain))
    return out


def _row(
    manifest: Manifest,
    student: str,
    method: str,
    mine: Mapping[int, float],
    alone: Mapping[int, float],
    published: Mapping[str, float],
    plain: str | None,
) -> RowOut:
    one = stats.summarize(list(mine.values()))
    figure = published.get(method)
    difference = one.mean - figure if one.mean is not None and figure is not None else None
    published_alone = published.get(plain) if plain is not None and method != plain else None
    published_gain = figure - published_alone if figure is not None and published_alone is not None else None
    gain = stats.compare(mine, alone) if method != plain and mine and alone else None
    return RowOut(
        student=student,
        method=method,
        n=one.n,
        mean=one.mean,
        std=one.std,
        low=one.interval[0] if one.interval is not None else None,
        high=one.interval[1] if one.interval is not None else None,
        published=figure,
        difference=difference,
        verdict=_verdict(one, figure, manifest.tolerance),
        gain=gain.mean if gain is not None else None,
        gain_low=gain.low if gain is not None else None,
        gain_high=gain.high if gain is not None else None,
        published_gain=published_gain,
    )


def _verdict(one: stats.Summary, figure: float | None, tolerance: float) -> Reproduced:
    if one.mean is None:
        return "no run yet"
    if figure is None:
        return "nothing published"
    if one.n < stats.ENOUGH:
        return "not enough seeds"
    difference = one.mean - figure
    if abs(difference) <= tolerance + 1e-9:
        return "reproduced"
    return "above" if difference > 0 else "below"
