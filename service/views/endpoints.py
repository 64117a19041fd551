"""HTTP routes of saved views. A view is an address and no more: who opens it sees what they may see."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.access import audit
from service.access.principal import Me
from service.access.schemas import Body
from service.bodies import documented, read_as
from service.deps import Db
from service.errors import Problem
from service.models import Scope, View, new_id

router = APIRouter(tags=["views"])

MOST = 500
# A path of this UI: never another host (`//host`), never another scheme.
_PAGE = r"^/([^\x00-\x20\x7f\\/][^\x00-\x20\x7f\\]*)?$"


class ViewIn(Body):
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    address: Annotated[str, Field(min_length=1, max_length=20_000, pattern=_PAGE)] = Field(
        description="Path and query of the page, from the first slash."
    )


class ViewOut(BaseModel):
    id: str
    name: str
    address: str
    created_by: str | None
    created_at: float


class ViewsOut(BaseModel):
    items: list[ViewOut] = Field(description="The newest first.")


@router.post("/views", status_code=201, openapi_extra=documented(ViewIn), summary="Keep the address of a page")
def save_view(response: Response, db: Db, me: Me, wanted: Annotated[ViewIn, Depends(read_as(ViewIn))]) -> ViewOut:
    if me.scope == Scope.READ:
        raise Problem(403, "this token may only read")
    with db.write() as session:
        view = View(
            id=new_id("view"), name=wanted.name, address=wanted.address, created_by=me.name, created_at=time.time()
        )
        session.add(view)
        session.flush()
        audit.record(session, me, "view.save", view.id)
        response.headers["Location"] = f"/api/v1/views/{view.id}"
        return _out(view)


@router.get("/views", summary="Saved views of everybody")
def list_views(db: Db, me: Me) -> ViewsOut:
    with db.read() as session:
        rows = session.scalars(select(View).order_by(View.created_at.desc(), View.id).limit(MOST))
        return ViewsOut(items=[_out(row) for row in rows])


@router.get("/views/{view_id}", summary="One saved view")
def get_view(db: Db, me: Me, view_id: str) -> ViewOut:
    with db.read() as session:
        return _out(_existing(session, view_id))


@router.delete("/views/{view_id}", status_code=204, summary="Forget a view of one's own")
def delete_view(db: Db, me: Me, view_id: str) -> Response:
    with db.write() as session:
        view = _existing(session, view_id)
        if me.scope == Scope.READ or (view.created_by != me.name and not me.is_admin):
            raise Problem(403, f"view {view_id} was saved by {view.created_by}; only they and administrators remove it")
        audit.record(session, me, "view.delete", view.id)
        session.delete(view)
    return Response(status_code=204)


def _existing(session: Session, view_id: str) -> View:
    view = session.get(View, view_id)
    if view is None:
        raise Problem(404, f"there is no view {view_id!r}")
    return view


def _out(view: View) -> ViewOut:
    return ViewOut(
        id=view.id, name=view.name, address=view.address, created_by=view.created_by, created_at=view.created_at
    )
