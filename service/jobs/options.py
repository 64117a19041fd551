"""What a submission says beside the spec (query parameters), and which submissions are the same one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from bcd.spec import JobSpec
from service.models import DEFAULT_PROJECT

Priority = Annotated[int, Field(ge=-100, le=100, description="Higher goes first among the jobs of the queue.")]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,50}$")]
Group = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(description="A name for runs that are looked at together."),
]


def _distinct(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(texts)))


Id = Annotated[str, Field(min_length=1, max_length=100)]
Ids = Annotated[tuple[Id, ...], Field(max_length=50)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=20), AfterValidator(_distinct)]


class Options(BaseModel):
    """What a submission says beside the spec."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True)
    project: Annotated[str, Field(max_length=40)] = Field(
        DEFAULT_PROJECT, description="The project that the job belongs to."
    )
    priority: Priority = 0
    tags: Tags = Field((), alias="tag", description="A word for finding it again; may be repeated.")
    group: Group | None = None
    after: Annotated[Ids, AfterValidator(_distinct)] = Field(
        (), description="Id of a job that must have succeeded before this one starts; may be repeated."
    )
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        0,
        description="How often a failure of the job itself (its data, its code) is tried again. Faults of the "
        "infrastructure are tried again in any case.",
    )


@dataclass(frozen=True)
class Origin:
    """Where a job comes from that was not submitted as a new spec."""

    type: Literal["clone", "retry"]
    parent_id: str
    from_start: bool = False  # a retry that takes nothing over
    given: Options = field(default_factory=Options)  # what the request itself said; the other options are the parent's


def request_hash(spec: JobSpec, options: Options, origin: Origin | None) -> str:
    """What must be equal where an Idempotency-Key is used again. A plain submission's is the digest of its spec."""
    if origin is None:
        said = options.model_dump(mode="json", exclude_defaults=True, exclude={"project"})  # a project has its own keys
    else:
        said = origin.given.model_dump(mode="json", exclude_unset=True, exclude={"project"})
        said["origin"] = [origin.type, origin.parent_id, origin.from_start]
    if not said:
        return spec.digest()
    plain = json.dumps({"spec": spec.digest(), **said}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()
