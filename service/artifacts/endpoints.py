"""HTTP routes of artifacts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from service.access.principal import Me, Principal
from service.artifacts import service
from service.artifacts.ranges import NotSatisfiable, asked_range, is_known
from service.artifacts.schemas import ArtifactsOut, artifact_out
from service.db import Database
from service.deps import Config, Db
from service.errors import Problem
from service.jobs.service import existing as existing_job
from service.models import Artifact

router = APIRouter(tags=["artifacts"])

_Header = Annotated[str | None, Header()]
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "content": _BYTES},
    206: {"description": "The range of bytes that was asked for.", "content": _BYTES},
    304: {"description": "The client has it already."},
}


@router.get("/jobs/{job_id}/artifacts", summary="Stored files of a job")
def list_artifacts(db: Db, me: Me, job_id: str) -> ArtifactsOut:
    with db.read() as session:
        existing_job(session, me, job_id)
        return ArtifactsOut(items=[artifact_out(row) for row in service.list_of_job(session, job_id)])


@router.head("/artifacts/{artifact_id}/content", include_in_schema=False)
@router.get(
    "/artifacts/{artifact_id}/content", summary="The bytes (ranges work)", response_class=Response, responses=_CONTENT
)
async def get_content(
    request: Request,
    db: Db,
    me: Me,
    settings: Config,
    artifact_id: str,
    range: _Header = None,
    if_range: _Header = None,
    if_none_match: _Header = None,
) -> Response:
    """One range of bytes is answered with 206; several, or what is no range of bytes, with the whole file."""
    row = await run_in_threadpool(_row, db, me, artifact_id)
    etag = f'"{row.sha256}"'
    # Content never changes under its hash; the id may get new content, hence the question each time.
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
    if is_known(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    # Threads of their own: storage that hangs must not use up those that serve everything else.
    ask = partial(anyio.to_thread.run_sync, limiter=request.app.state.storage_threads)
    store = await ask(service.require_stored, settings, row)
    try:  # the standard knows ranges for GET alone
        asked = asked_range(range if request.method == "GET" else None, if_range, size=row.size, etag=etag)
    except NotSatisfiable:
        detail = f"the range {range!r} has no byte of this file, which has {row.size}"
        raise Problem(416, detail, headers={"Content-Range": f"bytes */{row.size}"}) from None
    start, end = asked or (0, row.size)
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Disposition": f'attachment; filename="{service.download_name(row.job_id, row.name)}"',
    }
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.size}"
    with service.storage_faults(row):
        blocks = await ask(store.read, row.key, start, end) if request.method == "GET" else iter(())

    async def stream() -> AsyncIterator[bytes]:
        while block := await ask(next, blocks, b""):
            yield block

    return StreamingResponse(stream(), 200 if asked is None else 206, headers, "application/octet-stream")


def _row(db: Database, me: Principal, artifact_id: str) -> Artifact:
    with db.read() as session:
        return service.existing(session, me, artifact_id)
