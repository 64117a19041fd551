"""HTTP routes of artifacts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import FileResponse, Response

from service.access.principal import Me
from service.artifacts import service
from service.artifacts.schemas import ArtifactsOut, artifact_out
from service.deps import Config, Db
from service.jobs.service import existing as existing_job

router = APIRouter(tags=["artifacts"])


@router.get("/jobs/{job_id}/artifacts", summary="Stored files of a job")
def list_artifacts(db: Db, me: Me, job_id: str) -> ArtifactsOut:
    with db.read() as session:
        existing_job(session, me, job_id)
        return ArtifactsOut(items=[artifact_out(row) for row in service.list_of_job(session, job_id)])


@router.get("/artifacts/{artifact_id}/content", response_class=FileResponse, summary="The bytes (ranges work)")
def get_content(
    db: Db, me: Me, settings: Config, artifact_id: str, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    with db.read() as session:
        row = service.existing(session, me, artifact_id)
    # Content never changes under its hash; the id may get new content, hence the question each time.
    headers = {"ETag": f'"{row.sha256}"', "Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
    if if_none_match is not None and row.sha256 in if_none_match:
        return Response(status_code=304, headers=headers)
    return FileResponse(
        service.file_of(settings, row),
        media_type="application/octet-stream",
        filename=service.download_name(row.job_id, row.name),
        content_disposition_type="attachment",
        headers=headers,
    )
