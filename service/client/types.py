"""What the API answers, as types; and the events of its streams. Times are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


class Job(TypedDict):
    """A job as `GET /api/v1/jobs/{id}` shows it. Times are Unix seconds."""

    id: str
    name: str
    state: str
    cause: str | None
    spec: dict[str, Any]
    step: int
    total_steps: int
    teacher_job_id: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    attempts: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
    seed: int
    methods: list[str]
    project: NotRequired[str]
    priority: NotRequired[int]
    tags: NotRequired[list[str]]
    group: NotRequired[str | None]
    wait_reason: NotRequired[str | None]
    parent_id: NotRequired[str | None]
    origin: NotRequired[str | None]
    needs: NotRequired[list[str]]
    created_by: NotRequired[str | None]


class JobRow(TypedDict):
    """A job as the list shows it: all but its spec and attempts. Times are Unix seconds."""

    id: str
    name: str
    project: str
    state: str
    cause: str | None
    wait_reason: str | None
    methods: list[str]
    detector: str
    dataset: str
    seed: int
    teacher_job_id: str | None
    group: str | None
    tags: list[str]
    priority: int
    step: int
    total_steps: int
    created_by: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    evaluation: dict[str, float | None] | None
    metrics: dict[str, dict[str, Any]]


class JobPage(TypedDict):
    """One page of jobs, newest first."""

    items: list[JobRow]
    next_cursor: str | None


class Series(TypedDict):
    """One metric over the steps of a job."""

    steps: list[int]
    values: list[float]
    times: list[float]


class LogLine(TypedDict):
    id: int
    time: float
    level: str
    text: str
    attempt: int


class LogPage(TypedDict):
    """Log lines; `next` is the id to continue after, `previous` the one to read backwards before."""

    lines: list[LogLine]
    next: int | None
    previous: NotRequired[int | None]


class Outcome(TypedDict):
    """What a batch did to one job: its state now, or the problem for which nothing of it was changed."""

    id: str
    state: str | None
    job_id: str | None
    problem: dict[str, Any] | None


class Artifact(TypedDict):
    """A stored file of a job: checkpoint, result, predictions."""

    id: str
    type: str
    name: str
    step: int
    size: int
    sha256: str
    created_at: NotRequired[float]


@dataclass(frozen=True)
class Event:
    """One line of the event stream.

    Beside the server's own types (`job.state`, `job.metrics`, ...) the client makes three: `stream.open` after each
    (re)connection, `stream.poll` while there is no stream (look for yourself), and `job` with a fresh job in `data`.
    """

    type: str
    job_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    id: int | None = None
    time: float | None = None
