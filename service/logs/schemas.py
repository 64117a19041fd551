"""What the API shows of a log."""

from __future__ import annotations

from pydantic import BaseModel, Field


class LogLineOut(BaseModel):
    id: int
    time: float
    level: str
    text: str
    attempt: int = Field(description="Number of the attempt.")


class LogsOut(BaseModel):
    lines: list[LogLineOut]
    next: int = Field(description="Pass as `after` to read on.")
    previous: int | None = Field(description="Pass as `before` to read what came earlier; null: nothing did.")
