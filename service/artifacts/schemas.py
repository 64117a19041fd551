"""What the API shows of a stored file."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.models import Artifact


class ArtifactOut(BaseModel):
    """A stored file; its bytes are at /artifacts/{id}/content."""

    id: str
    type: str = Field(description="checkpoint, result, predictions, gallery (pictures of validation images) or other.")
    name: str
    step: int
    size: int = Field(description="Bytes.")
    sha256: str
    created_at: float


class ArtifactsOut(BaseModel):
    items: list[ArtifactOut]


def artifact_out(row: Artifact) -> ArtifactOut:
    return ArtifactOut(
        id=row.id,
        type=row.type,
        name=row.name,
        step=row.step,
        size=row.size,
        sha256=row.sha256,
        created_at=row.created_at,
    )
