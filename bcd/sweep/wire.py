"""What the driver of a sweep and the service tell each other. Plain values, no torch, no Ray."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bcd.sweep.space import Word

# Error types of the driver's routes.
STALE_DRIVER = "urn:bcd:stale-driver"
BUDGET_SPENT = "urn:bcd:budget-spent"
TRIALS_RUN = "urn:bcd:trials-run"


class Report(BaseModel):
    """The first objective at an evaluation during training."""

    step: int
    value: float


class TrialState(BaseModel):
    """A trial as the service knows it."""

    number: int
    job_id: str
    params: dict[str, Word]
    state: str = Field(description="State of its job.")
    total_steps: int
    reports: list[Report] = Field(description="Those after the step that was asked for, in order.")
    values: list[float | None] | None = Field(None, description="Of each objective, once the job has succeeded.")
    cause: str | None = None

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


class SweepTicket(BaseModel):
    """All that a driver needs: what to search, and what was tried so far."""

    sweep_id: str
    spec: dict[str, Any]
    trials: list[TrialState] = Field(description="Those of the search, by number.")
    lease_seconds: float


class NewTrial(BaseModel):
    """Ask for the trial of this number. If it is there already, its own parameters are answered, not these."""

    model_config = ConfigDict(extra="forbid")
    number: Annotated[int, Field(ge=1, le=1_000_000)]
    params: Annotated[dict[str, Word], Field(max_length=100)]


class StopTrial(BaseModel):
    """The scheduler's decision to end a trial early."""

    model_config = ConfigDict(extra="forbid")
    why: Annotated[str, Field(min_length=1, max_length=500)]


class EndSearch(BaseModel):
    """The search is over; with a cause: it cannot go on."""

    model_config = ConfigDict(extra="forbid")
    failure: Annotated[str, Field(max_length=4000)] | None = None
    traceback: Annotated[str, Field(max_length=100_000)] | None = None
