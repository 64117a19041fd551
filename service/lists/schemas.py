"""What lists show: a row for each job, counts, and what can be filtered and sorted by."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.results.schemas import Summary


class JobRow(BaseModel):
    """A job in a list: all but its spec and its attempts. Times are Unix seconds."""

    id: str
    name: str
    project: str
    state: str
    cause: str | None = Field(description="Why it is in this state, in one line.")
    wait_reason: str | None = Field(description="Why it is not running yet.")
    methods: list[str] = Field(description="Types of the distillation methods; empty: trained on labels alone.")
    detector: str
    dataset: str
    seed: int
    teacher_job_id: str | None
    group: str | None
    tags: list[str]
    priority: int
    step: int
    total_steps: int = Field(description="0: known once the data set is read.")
    created_by: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    evaluation: dict[str, float | None] | None = Field(
        description="The scalars of the final evaluation (AP, AP50, ...), once there is one."
    )
    metrics: dict[str, Summary] = Field(description="Of the metrics that were asked for, those that it reported.")


class JobPage(BaseModel):
    items: list[JobRow]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null: this is the last one.")


class JobCounts(BaseModel):
    total: int
    by_state: dict[str, int] = Field(description="How many jobs are in each state; states without any are left out.")


class FilterField(BaseModel):
    """One field of the filter language."""

    name: str
    kind: str = Field(description="word, text, number, time, span or metric.")
    operators: list[str]
    choices: list[str] = Field(description="All values that it can have; empty: any.")
    sortable: bool
    help: str
    example: str


class FilterFields(BaseModel):
    fields: list[FilterField]
    metrics: list[str] = Field(description="Metrics of the newest jobs: filter and sort by best.KEY and last.KEY.")
