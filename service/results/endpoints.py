"""HTTP routes of series over several runs. They only read; POST because the lists of runs are long."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from service.access.principal import Me
from service.bodies import documented, read_as
from service.conditional import Tags, version_of
from service.deps import Db
from service.results import service
from service.results.schemas import CurvesOut, CurvesQuery, TableOut, TableQuery

router = APIRouter(tags=["series"])


@router.post(
    "/series:query", openapi_extra=documented(CurvesQuery), summary="Curves of several runs, averaged where asked"
)
def query_curves(db: Db, me: Me, tags: Tags, query: Annotated[CurvesQuery, Depends(read_as(CurvesQuery))]) -> CurvesOut:
    """An answer has an ETag; sent again with `If-None-Match` a question without news is answered by 304."""
    with db.read() as session:
        runs = service.visible(session, me, query.runs)
        tags.tag(me, query.model_dump(), version_of(session, runs))
        return service.curves(session, runs, query)


@router.post("/series:table", openapi_extra=documented(TableQuery), summary="Last and best values of several runs")
def query_table(db: Db, me: Me, tags: Tags, query: Annotated[TableQuery, Depends(read_as(TableQuery))]) -> TableOut:
    """An answer has an ETag, as that of /series:query."""
    with db.read() as session:
        runs = service.visible(session, me, query.runs)
        tags.tag(me, query.model_dump(), version_of(session, runs))
        return service.table(session, query.runs, runs, query.metrics)
