"""What a run reports about itself, and the ticket that starts it: the wire format between worker and service.

No torch here: the API process validates these. A record is idempotent by `(attempt, seq)`; replays change nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

# A metric that a run reports once it has read its data set, where `schedule.epochs` gives its length.
TOTAL_STEPS = "total_steps"
# The resource of the cluster's nodes that may run jobs: a head or a dispatcher's own node has none of it.
TRAINS = "bcd_trains"
OBJECT_KEY = r"^objects/[0-9a-f]{2}/[0-9a-f]{64}$"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    seq: Annotated[int, Field(ge=1)] = Field(description="Position in the attempt's outbox, from 1 without gaps.")
    time: float = Field(description="Unix time in seconds at which the worker wrote the record.")


class MetricRecord(_Record):
    """Scalars at a step. Non-finite values are left out by the worker and logged instead."""

    kind: Literal["metric"] = "metric"
    step: Annotated[int, Field(ge=0)]
    values: dict[Annotated[str, Field(min_length=1, max_length=200)], float] = Field(max_length=2000)


class LogRecord(_Record):
    """One line of the run's log."""

    kind: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    text: Annotated[str, Field(max_length=20_000)]


class ArtifactRecord(_Record):
    """A file that is already in storage under its content hash."""

    kind: Literal["artifact"] = "artifact"
    type: Literal["checkpoint", "result", "predictions", "gallery", "other"]
    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._-]+$")]
    step: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    key: Annotated[str, Field(pattern=OBJECT_KEY, description="Place in storage, relative to its root.")]


class EvaluationRecord(_Record):
    """The result of one evaluation: `results` is what `bcd.eval.coco.evaluate` returns."""

    kind: Literal["evaluation"] = "evaluation"
    step: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(min_length=1, max_length=100)] = "final"
    protocol: Annotated[str, Field(max_length=128)] = Field(description="Hash of everything that makes AP comparable.")
    results: dict[str, Any]


class FactsRecord(_Record):
    """What a run found out about itself: which code, machine, data and teacher it uses. Words by name."""

    kind: Literal["facts"] = "facts"
    values: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,50}$")], Annotated[str, Field(max_length=500)]] = Field(
        max_length=50
    )


class StateRecord(_Record):
    """The attempt's own state as the worker sees it. A terminal one is the last record of an attempt."""

    kind: Literal["state"] = "state"
    state: Literal["running", "succeeded", "failed", "cancelled"]
    cause: Annotated[str, Field(max_length=4000)] | None = Field(None, description="One line: why it failed.")
    retryable: bool = Field(False, description="Infrastructure fault (retry) or fault of the job itself (do not).")
    traceback: Annotated[str, Field(max_length=100_000)] | None = None


Record = Annotated[
    MetricRecord | LogRecord | ArtifactRecord | EvaluationRecord | FactsRecord | StateRecord,
    Field(discriminator="kind"),
]
record_adapter: TypeAdapter[Record] = TypeAdapter(Record)


class RecordBatch(BaseModel):
    """Body of `POST /api/v1/attempts/{id}/records`. An empty list is a heartbeat."""

    model_config = ConfigDict(extra="forbid")
    epoch: int
    records: Annotated[list[Record], Field(max_length=2000)] = []


class RecordAck(BaseModel):
    """Answer to a batch: everything up to `acked` is stored for good."""

    acked: int
    cancel: bool = Field(False, description="Write a checkpoint and stop: the job is cancelled or paused.")
    lease_seconds: float


class StoredObject(BaseModel):
    """A file in storage."""

    key: Annotated[str, Field(pattern=OBJECT_KEY)]
    sha256: str
    size: int
    step: int = 0


class Ticket(BaseModel):
    """All that a supervisor needs to run one attempt (`GET /api/v1/attempts/{id}/ticket`)."""

    job_id: str
    attempt_id: str
    number: int
    epoch: int
    spec: dict[str, Any]
    teacher: StoredObject | None = None
    resume: list[StoredObject] = Field(default=[], description="Checkpoints to resume from, newest first.")
    data_roots: list[str] = Field(default=[], description="The only folders that the spec may read from; none: all.")
    next_seq: int = Field(1, description="First seq that the service has not stored yet.")
    lease_seconds: float
