"""What is shown of the series of jobs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Summary(BaseModel):
    """Where a series stands: its last value and its best."""

    last: float
    last_step: int
    best: float = Field(description="The largest value; of losses the smallest.")
    best_step: int
    count: int = Field(description="How many values it has.")


MAX_RUNS, MAX_METRICS, MAX_VALUES = 200, 50, 200_000
Runs = Annotated[
    list[Annotated[str, Field(max_length=40)]],
    Field(min_length=1, max_length=MAX_RUNS, description="Ids of jobs; each counts once."),
]
Keys = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]],
    Field(min_length=1, max_length=MAX_METRICS, description="Metrics, as in AP or loss/qfl."),
]
Grouping = Literal["none", "spec", "method", "seed", "detector", "dataset", "group", "project", "teacher"]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, serialize_by_alias=True)
    runs: Runs
    metrics: Keys


class TableQuery(_Query):
    """What a table of runs shows."""


class CurvesQuery(_Query):
    """Which curves to draw, and how finely."""

    x: Literal["step", "time", "relative_time"] = Field(
        "step", description="time: Unix seconds; relative_time: seconds since the job first ran."
    )
    begin: float | None = Field(None, alias="from", description="Only points from here on, in units of x.")
    end: float | None = Field(None, alias="to", description="Only points up to here, in units of x.")
    buckets: int = Field(
        400, ge=10, le=1000, description="The most places that a curve has: twice the pixels of its width is enough."
    )
    group: Grouping = Field(
        "none", description="One curve for all runs that share this; spec: runs that differ in seed and name alone."
    )

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if self.begin is not None and self.end is not None and self.begin > self.end:
            raise ValueError("`from` lies behind `to`; swap them")
        values = len(set(self.runs)) * len(set(self.metrics)) * self.buckets
        if values > MAX_VALUES:
            raise ValueError(
                f"{values:,} places may come of this, and at most {MAX_VALUES:,} are answered: ask for fewer runs, "
                "metrics or buckets"
            )
        return self


class Curve(BaseModel):
    """One line. The lists are parallel: what lies in a bucket, over all of its points.

    Where `width` is null every point stands for itself: last, min and max are its value. In a group `last` is null and
    mean, std and n are over the runs: of each, its last value in the bucket.
    """

    metric: str
    runs: list[str]
    group: str | None = Field(description="What the runs share; null: a single run.")
    points: int = Field(description="How many points it was made of.")
    width: float | None = Field(description="Width of a bucket in units of x, a power of two.")
    x: list[float] = Field(description="Place of the bucket's last point.")
    last: list[float] | None
    min: list[float]
    max: list[float]
    mean: list[float] | None = None
    std: list[float | None] | None = Field(None, description="Sample standard deviation; null of a single run.")
    n: list[int] | None = Field(None, description="How many runs have a point in the bucket.")


class CurvesOut(BaseModel):
    x: str
    lines: list[Curve]
    missing: list[str] = Field(description="Runs that are not there, or not yours to see.")


class TableRow(BaseModel):
    run: str
    metrics: dict[str, Summary] = Field(description="Of the metrics that were asked for, those that it reported.")


class TableOut(BaseModel):
    rows: list[TableRow]
    missing: list[str] = Field(description="Runs that are not there, or not yours to see.")
