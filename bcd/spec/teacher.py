"""Where the teacher of a spec comes from, and how it is used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bcd.spec.base import Strict


class TeacherSpec(Strict):
    """Where the teacher comes from: exactly one of `job` and `path`."""

    job: str | None = Field(None, description="Id of another job; this job waits for it and uses its result.")
    path: str | None = Field(None, description="Folder or .safetensors file of a detector written by bcd.")
    classes: dict[str, str] = Field(
        default_factory=dict,
        description="Classes that the teacher calls otherwise: the data's name to the teacher's. The others are "
        "matched by name; a class that the teacher does not know is learnt from labels alone.",
    )
    cache: Literal["auto", "off"] = Field(
        "auto",
        description="auto: run the teacher once over the training images and keep its outputs (in memory, and in the "
        "machine's data cache for further runs), where images never change or are only mirrored, are seen more than "
        "once, the methods read only scores and boxes, and cache_memory suffices. off: run it at every step.",
    )
    cache_sites: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None,
        description="Keep the scores of only this many of an image's sites, the best ones, in half precision; the "
        "others get the image's mean background scores. Default: all sites, exactly.",
    )
    cache_memory: Annotated[float, Field(gt=0, le=4096)] = Field(
        1.0, description="Most memory for kept outputs in GiB, on the training device; beyond it the teacher runs."
    )

    preflight: Literal["refuse", "warn", "off"] = Field(
        "refuse",
        description="Before the first step the teacher is judged on a few validation images (see `bcd doctor`). "
        "refuse: stop a job whose teacher fails. warn: train all the same and say so. off: do not look.",
    )

    @model_validator(mode="after")
    def _one(self) -> TeacherSpec:
        if (self.job is None) == (self.path is None):
            raise ValueError("give exactly one of `job` (id of another job) and `path` (a detector written by bcd)")
        return self
