"""What the API says about sweeps."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from bcd.sweep.space import Word
from service.compare.stats import Verdict
from service.models import SweepState


class SweepOut(BaseModel):
    """A sweep and how far it is."""

    id: str
    project: str
    name: str
    state: SweepState
    cause: str | None = Field(description="Why it ended or stands still, in one line.")
    priority: int
    objectives: list[str] = Field(description="Names of what is optimised, the first one first.")
    search: str
    scheduler: str
    most_trials: int | None = Field(description="null: as many as fit the budget.")
    jobs: dict[str, int] = Field(description="Number of its jobs by state.")
    searched_seconds: float
    created_by: str | None
    created_at: float
    ended_at: float | None
    group: str = Field(description="The group of its jobs.")


class SweepDetail(SweepOut):
    spec: dict[str, Any]


class SweepsOut(BaseModel):
    items: list[SweepOut]
    next_cursor: str | None


class TrialOut(BaseModel):
    """A run of a trial."""

    number: int = Field(description="0: the base spec as it is.")
    seed: int
    job_id: str
    params: dict[str, Word]
    state: str
    step: int
    total_steps: int
    values: list[float | None] | None = Field(description="Of each objective; null unless it ran to its end.")
    last: float | None = Field(description="First objective at its newest evaluation.")
    stopped: str | None = Field(description="Why the scheduler stopped it.")
    cause: str | None
    started_at: float | None
    ended_at: float | None


class TrialsOut(BaseModel):
    items: list[TrialOut] = Field(description="By number and seed: trials of the search, then repeats.")


class Progress(BaseModel):
    """The best value so far when a trial ended."""

    number: int
    time: float
    value: float
    best: float


class Importance(BaseModel):
    """How much of what separates good trials from others a parameter explains; all together 1."""

    path: str
    value: float
    low: float | None = Field(description="2.5 % of what resampled trials give; null: too few trials.")
    high: float | None = Field(description="97.5 %.")


class ImportanceOut(BaseModel):
    items: list[Importance] = Field(description="The most important parameter first.")
    note: str | None = Field(description="Why there is none.")


class Ranked(BaseModel):
    """A trial that was trained again on more seeds, beside the base spec."""

    number: int
    params: dict[str, Word]
    search_value: float | None = Field(description="What the search saw, on its one seed.")
    n: int
    mean: float | None
    std: float | None
    low: float | None = Field(description="95 % interval of the mean.")
    high: float | None
    difference: float | None = Field(description="To the base spec, paired by seed.")
    difference_low: float | None
    difference_high: float | None
    p_adjusted: float | None = Field(description="Holm's correction over the trials that were repeated.")
    verdict: Verdict | None


class Spent(BaseModel):
    """What the search cost, and what running every trial to its end would have."""

    trials: int
    steps: int = Field(description="Optimizer steps of all trials of the search.")
    steps_in_full: int
    worker_hours: float
    gpu_hours: float


class SweepReport(BaseModel):
    """What a sweep found."""

    sweep: SweepOut
    best: list[int] = Field(description="Numbers of the trials that ran to their end, the best first.")
    front: list[int] = Field(description="Numbers of the Pareto front, with several objectives.")
    best_so_far: list[Progress]
    ranking: list[Ranked] = Field(description="The repeated trials, the best mean first, and the base spec.")
    sentence: str = Field(description="The result in one sentence.")
    failures: dict[str, int] = Field(description="Causes of failed trials, and how many had each.")
    stopped: int = Field(description="Trials that the scheduler stopped.")
    spent: Spent
