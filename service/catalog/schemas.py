"""Models and data sets as lists show them. AP in points, times in Unix seconds."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.lists.schemas import JobRow


class ModelFile(BaseModel):
    """The weights that a run has ended with."""

    artifact_id: str
    name: str
    sha256: str
    size: int = Field(description="Bytes.")
    step: int = Field(description="Of the weights: the last step, or the best.")


class ModelOut(BaseModel):
    """A finished student: the run that made it, its weights, what it costs, what it rests on."""

    job: JobRow
    file: ModelFile | None = Field(description="None: storage keeps no weights of this run any more.")
    parameters: float | None
    gflops: float | None = Field(description="Of one image; a multiply-add counts as two.")
    latency_ms: float | None = Field(description="Of one image, on `device`.")
    device: str | None
    protocol: str | None = Field(description="Hash of how its AP was measured; AP of other protocols do not compare.")
    data_version: str | None
    git_commit: str | None
    teaches: int = Field(description="Jobs that have it as their teacher.")


class ModelPage(BaseModel):
    items: list[ModelOut]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null: this is the last one.")


class DatasetOut(BaseModel):
    """One validation set, as its runs have shown it."""

    id: str = Field(description="Hash of its pictures and objects.")
    type: str = Field(description="As in the spec: voc, coco, yolo, digits-scenes-v1.")
    where: str | None = Field(description="The folder that the newest run names; None: generated.")
    data_version: str | None = Field(description="Of training and validation part together, in the newest run.")
    runs: int
    last_used_at: float
    job_ids: list[str] = Field(description="Its newest runs, at most 100.")


class DatasetsOut(BaseModel):
    items: list[DatasetOut] = Field(description="The last used first.")
