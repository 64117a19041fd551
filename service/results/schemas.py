"""What is shown of the series of jobs."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Summary(BaseModel):
    """Where a series stands: its last value and its best."""

    last: float
    last_step: int
    best: float = Field(description="The largest value; of losses the smallest.")
    best_step: int
    count: int = Field(description="How many values it has.")
