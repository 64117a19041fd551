"""Where the teacher of a spec comes from, and how it is used."""

from __future__ import annotations

from typing import Literal

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
        description="auto: run the teacher once over the training images and keep its outputs in memory (up to 1 GiB), "
        "where images never change (no augmentation, one size) and are seen more than once. off: run it at every step.",
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
