"""The answer of a comparison."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Role = Literal["distilled", "baseline", "teacher", "other"]
Verdict = Literal["better", "worse", "no clear difference", "not enough seeds"]


class ComparedJob(BaseModel):
    """One run of a group; AP values in points, None where undefined (no object of that size)."""

    id: str
    name: str
    seed: int
    AP: float
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None


class GroupOut(BaseModel):
    """Runs that differ in name and seed only, judged under one protocol."""

    role: Role
    label: str
    protocol: str
    jobs: list[ComparedJob]
    n: int
    mean: float | None
    std: float | None = Field(description="Sample standard deviation; None for one run.")
    low: float | None = Field(description="Bounds of the 95 % interval of the mean; None with fewer than 3 seeds.")
    high: float | None


class SeedDifference(BaseModel):
    seed: int
    value: float


class ComparisonOut(BaseModel):
    """A distilled group against a baseline: differences are distilled minus baseline, in AP points."""

    label: str
    baseline_label: str
    paired: bool
    n: int = Field(description="Pairs, or runs of the smaller group when unpaired.")
    differences: list[SeedDifference]
    mean: float | None
    low: float | None = Field(description="Bounds of the 95 % interval; None with fewer than 3 seeds.")
    high: float | None
    p: float | None = Field(description="Two-sided, of the t test of the interval; None with fewer than 3 seeds.")
    p_adjusted: float | None = Field(description="After Holm's correction; None with fewer than 3 comparisons.")
    verdict: Verdict = Field(description="By the adjusted p where there is one, else by the interval.")
    teacher_label: str | None = Field(description="The teacher of `gap_closed`.")
    gap_closed: float | None = Field(description="1: as good as the teacher, 0: as the baseline.")
    gap_low: float | None = Field(description="Bounds of its 95 % interval by resampling seeds.")
    gap_high: float | None
    gap_reason: str | None = Field(description="Why `gap_closed` is missing.")
    sentence: str


class CompareOut(BaseModel):
    metric: Literal["AP"] = "AP"
    groups: list[GroupOut]
    comparisons: list[ComparisonOut]
    warnings: list[str]


class Part(BaseModel):
    """One class, or one size of objects: AP in points, means over runs; the difference is distilled minus baseline."""

    name: str = Field(description="The class; or small (below 32² pixels), medium, large (96² and more).")
    distilled: float
    baseline: float
    teacher: float | None = Field(description="None where there is no teacher of the same protocol.")
    n: int
    paired: bool
    mean: float | None
    low: float | None = Field(description="Bounds of the 95 % interval over seeds; None with fewer than 3.")
    high: float | None
    p: float | None
    p_adjusted: float | None = Field(description="After Holm's correction over the classes, or sizes, side by side.")
    verdict: Verdict


class PartsOfComparison(BaseModel):
    """A distilled group against a baseline; classes and sizes without objects in the validation data are left out."""

    label: str
    baseline_label: str
    teacher_label: str | None
    classes: list[Part] = Field(description="In the order of the data set.")
    sizes: list[Part]


class PartsOut(BaseModel):
    metric: Literal["AP"] = "AP"
    comparisons: list[PartsOfComparison]
    warnings: list[str]


CostMetric = Literal["parameters", "gflops", "latency_ms", "gpu_hours", "hours"]


class Latency(BaseModel):
    """Median over a group's runs of the median time of one image, on one device."""

    device: str
    milliseconds: float
    n: int = Field(description="Runs that were measured there.")


class GroupCost(BaseModel):
    """What a group's student costs to run, and its training to repeat; None where no run has told."""

    role: Role
    label: str
    protocol: str
    n: int
    mean: float | None = Field(description="AP in points, with the bounds of its 95 % interval.")
    low: float | None
    high: float | None
    parameters: float | None
    gflops: float | None = Field(description="Of one image; a multiply-add counts as two.")
    latencies: list[Latency]
    hours: float | None = Field(description="From start to end over all attempts of a run, mean over runs.")
    gpu_hours: float | None = Field(description="The same times the GPUs taken; 0 on a CPU.")


class FrontPoint(BaseModel):
    label: str
    role: Role
    cost: float
    mean: float
    low: float | None
    high: float | None
    front: bool = Field(description="No other group here is at least as good at no more cost.")


class Front(BaseModel):
    """AP against one cost, of what may be on one axis: one protocol, and for latencies one device."""

    metric: CostMetric
    device: str | None
    protocol: str
    points: list[FrontPoint] = Field(description="By cost.")


class CostsOut(BaseModel):
    groups: list[GroupCost]
    fronts: list[Front]
    warnings: list[str]


class BoardRow(BaseModel):
    """A group over seeds; what it wins is over its baseline, where there is one of the same student and schedule."""

    label: str
    role: Role
    job_ids: list[str]
    n: int
    mean: float
    std: float | None
    difference: float | None
    verdict: Verdict | None
    gap_closed: float | None
    parameters: float | None
    latencies: list[Latency]


class Board(BaseModel):
    """Groups that were judged under one protocol, the best first."""

    protocol: str
    data: str = Field(description="The form of the data, as in the newest run's spec.")
    groups: int = Field(description="How many there are; the best are in `rows`.")
    rows: list[BoardRow]


class LeaderboardOut(BaseModel):
    boards: list[Board] = Field(description="That of the newest run first.")
    runs: int = Field(description="The newest finished runs that were looked at.")
