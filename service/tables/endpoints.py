"""HTTP routes of tables."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import select

from service.access import audit
from service.access.principal import Me
from service.bodies import documented
from service.deps import Db
from service.errors import parse_json, read_body
from service.models import DEFAULT_PROJECT, Role
from service.models import Manifest as Row
from service.tables import service
from service.tables.check import summary, table_out
from service.tables.manifest import Manifest
from service.tables.schemas import ResultTableOut, SubmittedOut, TablesOut

router = APIRouter(tags=["tables"])

Raw = Annotated[bytes, Depends(read_body)]
MOST = 500


@router.post("/tables", status_code=201, openapi_extra=documented(Manifest), summary="Keep a manifest of a table")
def keep_table(
    response: Response,
    db: Db,
    me: Me,
    raw: Raw,
    project: Annotated[str, Query(max_length=40)] = DEFAULT_PROJECT,
) -> ResultTableOut:
    """Methods x students x seeds. A table of this name in the project gets this manifest (200); no job is submitted."""
    value = parse_json(raw)
    with db.write() as session:
        row, new = service.keep(session, me, value, project)
        response.status_code = 201 if new else 200
        response.headers["Location"] = f"/api/v1/tables/{row.id}"
        return table_out(session, row)


@router.get("/tables", summary="Tables to reproduce, the last changed first")
def list_tables(db: Db, me: Me) -> TablesOut:
    with db.read() as session:
        query = select(Row).where(me.visible(Row.project_id)).order_by(Row.updated_at.desc(), Row.id)
        return TablesOut(items=[summary(row) for row in session.scalars(query.limit(MOST))])


@router.get("/tables/{table_id}", summary="Which cells are there, and how they compare with what is published")
def get_table(db: Db, me: Me, table_id: str) -> ResultTableOut:
    with db.read() as session:
        return table_out(session, service.existing(session, me, table_id))


@router.post("/tables/{table_id}/submit", summary="Submit the cells that are missing, stale or failed")
def submit_table(db: Db, me: Me, table_id: str) -> SubmittedOut:
    return service.submit_missing(db, me, table_id)


@router.delete("/tables/{table_id}", status_code=204, summary="Forget a table; its jobs stay")
def delete_table(db: Db, me: Me, table_id: str) -> Response:
    with db.write() as session:
        row = service.existing(session, me, table_id, Role.EDITOR)
        audit.record(session, me, "table.delete", row.id, project_id=row.project_id)
        session.delete(row)
    return Response(status_code=204)
