"""The whole spec: one training run."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bcd.spec.base import Strict
from bcd.spec.data import DataSpec
from bcd.spec.evaluation import EvaluationSpec
from bcd.spec.methods import MethodSpec
from bcd.spec.models import DetectorSpec
from bcd.spec.schedule import ScheduleSpec
from bcd.spec.teacher import TeacherSpec


class ResourceSpec(Strict):
    """What a job occupies while it runs."""

    cpus: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="CPU threads.")
    gpus: Annotated[int, Field(ge=0, le=1)] = Field(0, description="GPUs.")


class JobSpec(Strict):
    """One training run. Without `teacher` and `methods` it trains a plain detector (a teacher or a baseline)."""

    version: Literal[1] = Field(1, description="Version of this format.")
    name: Annotated[str, Field(min_length=1, max_length=200)] = Field("job", description="A name for people.")
    data: DataSpec = Field(description="Data set.")
    teacher: TeacherSpec | None = Field(None, description="Teacher detector; needed by every method.")
    student: DetectorSpec = Field(description="The detector to train.")
    methods: Annotated[tuple[MethodSpec, ...], Field(max_length=16)] = Field(
        (), description="Distillation methods; their losses add up. Empty: train on labels alone."
    )
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec, description="Optimisation.")
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec, description="Evaluation.")
    resources: ResourceSpec = Field(default_factory=ResourceSpec, description="CPU threads and GPUs.")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="Seed of initial weights, batch order and augmentation."
    )

    @model_validator(mode="after")
    def _teacher_and_methods(self) -> JobSpec:
        if self.methods and self.teacher is None:
            raise ValueError("methods need a teacher: add `teacher: {job: ID}` or `teacher: {path: FILE}`")
        if self.teacher is not None and not self.methods:
            raise ValueError("a teacher without methods would do nothing: add `methods: [{type: bckd}]` or drop it")
        return self

    def canonical(self) -> dict[str, Any]:
        """The spec as plain JSON values with every default filled in."""
        return self.model_dump(mode="json")

    def digest(self, *, without: tuple[str, ...] = ()) -> str:
        """SHA-256 of the canonical spec, leaving out the named top-level keys (`name`, `seed`, ...)."""
        plain = {key: value for key, value in self.canonical().items() if key not in without}
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
