"""Keeping tables, and submitting what they lack."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bcd.spec import SpecError, path_faults
from service.access import audit
from service.access.principal import Principal
from service.db import Database
from service.errors import INVALID_SPEC, Problem
from service.jobs import needs
from service.jobs import submit as jobs
from service.jobs.options import Options
from service.models import Manifest as Row
from service.models import Role, new_id
from service.tables.check import find_cells, group_of
from service.tables.manifest import Cell, Manifest, cells, parse_manifest, pointer_of
from service.tables.schemas import SubmittedOut

_AGAIN = ("missing", "stale", "failed")


def keep(session: Session, me: Principal, value: Any, project: str) -> tuple[Row, bool]:
    """Keep a manifest under its name: a new table, or another manifest for the one of this name. Is it new?

    Raises `Problem`: 422 with pointers, 403 and 404.
    """
    me.require(project, Role.EDITOR)
    try:
        manifest = parse_manifest(value)
    except SpecError as error:
        raise _refusal(error.errors) from None
    query = select(Row).where(Row.project_id == project, Row.name == manifest.name).with_for_update()
    row, now = session.scalars(query).one_or_none(), time.time()
    content = manifest.model_dump(mode="json")
    new = row is None
    if row is None:
        row = Row(id=new_id("table"), project_id=project, name=manifest.name, created_by=me.name, created_at=now)
        session.add(row)
    row.content, row.updated_at = content, now
    session.flush()
    audit.record(session, me, "table.keep", row.id, project_id=project)
    return row, new


def existing(session: Session, me: Principal, table_id: str, role: Role = Role.VIEWER) -> Row:
    """Raises `Problem` 404, or 403 for a smaller role."""
    row = session.scalars(select(Row).where(Row.id == table_id, me.visible(Row.project_id))).one_or_none()
    if row is None:
        raise Problem(404, f"there is no table {table_id!r}")
    me.require(row.project_id, role)
    return row


def submit_missing(db: Database, me: Principal, table_id: str) -> SubmittedOut:
    """Submit the cells that are missing, stale or failed. Asked for twice at once, each is submitted once.

    Raises `Problem` 403, 404, or 422 where any cell of the table would be refused: then none is submitted.
    """
    with db.read() as session:
        row = existing(session, me, table_id, Role.EDITOR)
        manifest = Manifest.model_validate(row.content)
        found = find_cells(session, row, manifest)
        options = Options(project=row.project_id, group=group_of(row.name))
        _refuse(session, me, [cell for cell in cells(manifest) if cell.seed == manifest.seeds[0]], options)
    made = []
    for cell, seen in zip(cells(manifest), found, strict=True):
        if seen.state not in _AGAIN:
            continue
        # The job that is there now is part of the key: a failed cell can be tried again, but not twice at once.
        key = hashlib.sha256(f"{row.id} {cell.spec.digest()} {seen.job_id}".encode()).hexdigest()
        job, _ = jobs.submit(db, me, cell.spec.canonical(), options, key=f"table-{key}")
        made.append(job.id)
    return SubmittedOut(job_ids=made, left=len(found) - len(made))


def _refuse(session: Session, me: Principal, some: Sequence[Cell], options: Options) -> None:
    """Say all that is wrong with these cells beside the form of their specs: teacher, pairs, paths."""
    faults = []
    for cell in some:
        found = [
            *path_faults(cell.spec, me.data_roots),
            *needs.find(session, me, cell.spec, options, lock=False).faults,
        ]
        faults += [(pointer_of(place, cell), f"{cell.student} / {cell.method}: {message}") for place, message in found]
    if faults:
        raise _refusal(faults)


def _refusal(faults: list[tuple[str, str]]) -> Problem:
    pointer, message = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    detail = f"the table cannot be used: {pointer or '/'}: {message}{more}"
    return Problem(422, detail, type=INVALID_SPEC, errors=faults[:100])
