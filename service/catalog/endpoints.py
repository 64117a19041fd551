"""HTTP routes of the catalogue."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from service.access.principal import Me
from service.catalog import datasets, models
from service.catalog.schemas import DatasetsOut, ModelPage
from service.conditional import Tags, version_of_all
from service.deps import Db
from service.lists.endpoints import Sorted, Wanted
from service.paging import MAX_CURSOR

router = APIRouter(tags=["catalogue"])


@router.get("/models", summary="Finished students with their weights, costs and origin, newest first")
def list_models(
    db: Db,
    me: Me,
    tags: Tags,
    wanted: Wanted,
    order: Sorted,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=MAX_CURSOR, description="`next_cursor` of the page before.")] = None,
) -> ModelPage:
    """Filters and orders as those of `GET /jobs`."""
    with db.read() as session:
        tags.tag(me, version_of_all(session))
        return models.page(session, me, wanted, order, limit=limit, cursor=cursor)


@router.get("/datasets", summary="Validation sets that runs were judged on, the last used first")
def list_datasets(db: Db, me: Me, tags: Tags) -> DatasetsOut:
    """Of runs that have stored pictures. What is in a set: `GET /jobs/{id}/data` of one of its runs."""
    with db.read() as session:
        tags.tag(me, version_of_all(session))
        return datasets.all_of(session, me)
