"""ETags: a client that asks again for what it has gets 304, before the work of making the answer is done.

A tag is weak and names what the answer depends on, not its bytes: the request, who asks, and the newest events. All
that changes a job writes an event in the same transaction.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.models import Event

# What changes without an event (why a job waits) is at most this old (seconds) in a list that is asked for again.
LIST_SECONDS = 15
_VERSION = version("bcd")  # another one may answer in another form
_RECENT = 200  # events: a transaction of a lower id may commit after those of later ones, but not after so many


class NotModified(Exception):
    """The client has this answer already."""

    def __init__(self, headers: dict[str, str]):
        self.headers = headers
        super().__init__("not modified")


class Conditional:
    """What a request says about answers that the client has, and where the tag of this answer goes."""

    def __init__(self, request: Request, response: Response):
        self._request, self._response = request, response

    def tag(self, me: Principal, *depends_on: Any) -> None:
        """Tag this answer by all it depends on (plain JSON values). Raises `NotModified`."""
        asked = [self._request.url.path, sorted(self._request.query_params.multi_items())]
        rights = [me.user_id, me.scope, me.is_admin, me.only_project, sorted((me.roles or {}).items())]
        text = json.dumps([_VERSION, asked, rights, depends_on], default=str)
        tag = f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Vary": "Authorization, Cookie"}
        if tag in _given(self._request.headers.getlist("if-none-match")):
            raise NotModified(headers)
        self._response.headers.update(headers)


Tags = Annotated[Conditional, Depends(Conditional)]


def install(app: FastAPI) -> None:
    """Answer `NotModified`."""

    @app.exception_handler(NotModified)
    async def _not_modified(request: Request, error: NotModified) -> Response:
        return Response(status_code=304, headers=error.headers)


def version_of_all(session: Session) -> list[Any]:
    """Changes with every event of the installation."""
    ids = session.scalars(select(Event.id).order_by(Event.id.desc()).limit(_RECENT)).all()
    holes = ids[0] - ids[-1] + 1 - len(ids) if ids else 0
    return [ids[0] if ids else 0, holes, int(time.time() / LIST_SECONDS)]


def version_of(session: Session, job_ids: Iterable[str]) -> list[Any]:
    """Changes with every event of these jobs. Those of one job come one after the other: it is locked meanwhile."""
    ids: Sequence[str] = sorted(set(job_ids))
    query = select(Event.job_id, func.max(Event.id)).where(Event.job_id.in_(ids)).group_by(Event.job_id)
    return [ids, sorted(tuple(row) for row in session.execute(query))]


def _given(headers: Sequence[str]) -> set[str]:
    return {part.strip() for header in headers for part in header.split(",")}
