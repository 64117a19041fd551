"""HTTP routes of series over several runs. They only read; POST because the lists of runs are long."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ValidationError

from service.access.principal import Me
from service.conditional import Tags, version_of
from service.deps import Db
from service.errors import from_validation, parse_json, read_body
from service.results import service
from service.results.schemas import CurvesOut, CurvesQuery, TableOut, TableQuery

router = APIRouter(tags=["series"])
_Model = TypeVar("_Model", bound=BaseModel)
Raw = Annotated[bytes, Depends(read_body)]


def _body(model: type[BaseModel]) -> dict[str, Any]:
    # The body is read by `parse_json`, not by FastAPI, so its schema is named here.
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/series:query", openapi_extra=_body(CurvesQuery), summary="Curves of several runs, averaged where asked")
def query_curves(db: Db, me: Me, tags: Tags, raw: Raw) -> CurvesOut:
    """An answer has an ETag; sent again with `If-None-Match` a question without news is answered by 304."""
    query = _checked(CurvesQuery, raw)
    with db.read() as session:
        runs = service.visible(session, me, query.runs)
        tags.tag(me, raw.decode(), version_of(session, runs))
        return service.curves(session, runs, query)


@router.post("/series:table", openapi_extra=_body(TableQuery), summary="Last and best values of several runs")
def query_table(db: Db, me: Me, tags: Tags, raw: Raw) -> TableOut:
    """An answer has an ETag, as that of /series:query."""
    query = _checked(TableQuery, raw)
    with db.read() as session:
        runs = service.visible(session, me, query.runs)
        tags.tag(me, raw.decode(), version_of(session, runs))
        return service.table(session, query.runs, runs, query.metrics)


def _checked(model: type[_Model], raw: bytes) -> _Model:
    try:
        return model.model_validate(parse_json(raw))
    except ValidationError as error:
        raise from_validation([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from None
