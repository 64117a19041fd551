"""What the API says about tables."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

CellState = Literal["done", "under way", "failed", "stale", "missing"]
Reproduced = Literal["reproduced", "above", "below", "not enough seeds", "no run yet", "nothing published"]


class TableSummary(BaseModel):
    id: str
    project: str
    name: str
    created_by: str | None
    created_at: float
    updated_at: float


class TablesOut(BaseModel):
    items: list[TableSummary] = Field(description="The last changed first.")


class CellOut(BaseModel):
    student: str
    method: str
    seed: int
    state: CellState = Field(
        description="stale: the job of this cell was trained from another spec than the manifest now asks for."
    )
    job_id: str | None
    value: float | None
    cause: str | None


class RowOut(BaseModel):
    """One student with one method over seeds; in points of the table's metric."""

    student: str
    method: str
    n: int
    mean: float | None
    std: float | None
    low: float | None = Field(description="Bounds of the 95 % interval of the mean; None with fewer than 3 seeds.")
    high: float | None
    published: float | None
    difference: float | None = Field(description="Mean minus published.")
    verdict: Reproduced = Field(
        description="Whether the difference is within the tolerance; below 3 seeds nothing is said."
    )
    gain: float | None = Field(description="Over the row without methods, of the same student.")
    gain_low: float | None
    gain_high: float | None
    published_gain: float | None


class ResultTableOut(TableSummary):
    manifest: dict[str, Any]
    metric: str
    tolerance: float
    group: str = Field(description="The group of its jobs.")
    counts: dict[CellState, int]
    cells: list[CellOut]
    rows: list[RowOut]


class SubmittedOut(BaseModel):
    job_ids: list[str] = Field(description="Of the cells that were missing, stale or failed, in their order.")
    left: int = Field(description="Cells that were done or under way and were left alone.")
