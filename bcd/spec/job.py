"""The whole spec: one training run."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from bcd.spec.base import Strict
from bcd.spec.data import DataSpec, DigitsData
from bcd.spec.evaluation import EvaluationSpec
from bcd.spec.methods import MethodSpec
from bcd.spec.models import DetectorSpec
from bcd.spec.schedule import MOST_STEPS, ScheduleSpec
from bcd.spec.teacher import TeacherSpec

SMALLEST_SHARE = 0.01  # of a GPU


def _whole_as_int(count: float) -> int | float:
    """1.0 as 1: specs that mean the same have the same canonical form."""
    return int(count) if count == int(count) else count


# Not `int | float`, whose faults come in twos and point to the kinds.
_Gpus = Annotated[
    float,
    Field(ge=0, le=64),
    AfterValidator(_whole_as_int),
    PlainSerializer(_whole_as_int),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 64}),
]


class ResourceSpec(Strict):
    """What a job occupies while it runs."""

    cpus: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="CPU threads, over all processes.")
    gpus: _Gpus = Field(
        0,
        description="GPUs, each driven by a process of its own; or a share of one, such as 0.5, for a single process: "
        "it may then use that share of the GPU's memory.",
    )
    memory: Annotated[float, Field(gt=0, le=65536)] | None = Field(
        None,
        # Left out where nobody asked for it, so that the digests of specs from before this field stay what they were.
        exclude_if=lambda memory: memory is None,
        description="Host memory in GiB, over all processes, that is kept free for the job. Default: not counted.",
    )
    processes: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None,
        description="Processes that train together; each takes an equal part of every batch. Default: one for each "
        "GPU, one without.",
    )

    @model_validator(mode="after")
    def _one_process_for_each_gpu(self) -> ResourceSpec:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus must be a whole number or a share of one GPU such as 0.5, not {self.gpus:g}")
        if 0 < self.gpus < SMALLEST_SHARE:
            raise ValueError(f"a share of a GPU must be {SMALLEST_SHARE} at least, not {self.gpus:g}")
        if 0 < self.gpus < 1 and self.processes not in (None, 1):
            raise ValueError(f"{self.gpus:g} of a GPU serves one process; leave `processes` out, not {self.processes}")
        if self.gpus >= 1 and self.processes not in (None, self.gpus):
            raise ValueError(f"{self.gpus} GPUs need as many processes; leave `processes` out, not {self.processes}")
        return self

    @property
    def world(self) -> int:
        """Number of processes that train together."""
        return self.processes or max(int(self.gpus), 1)


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
    resources: ResourceSpec = Field(default_factory=ResourceSpec, description="CPU threads, GPUs and memory.")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="Seed of initial weights, batch order and augmentation."
    )

    @model_validator(mode="after")
    def _teacher_and_methods(self) -> JobSpec:
        if self.methods and self.teacher is None:
            raise ValueError("methods need a teacher: add `teacher: {job: ID}` or `teacher: {path: FILE}`")
        if self.teacher is not None and not self.methods:
            raise ValueError("a teacher without methods would do nothing: add `methods: [{type: bckd}]` or drop it")
        if self.data.unlabeled is not None and not self.methods:
            raise ValueError(
                "data.unlabeled needs a method and a teacher, without them its images would teach nothing: add both, "
                "or drop data.unlabeled"
            )
        return self

    @model_validator(mode="after")
    def _batch_and_evaluations(self) -> JobSpec:
        schedule, world = self.schedule, self.resources.world
        if schedule.batch_size % (world * schedule.accumulate):
            raise ValueError(
                f"schedule.batch_size ({schedule.batch_size}) counts the images of all {world} processes and "
                f"{schedule.accumulate} parts of a step: make it a multiple of {world * schedule.accumulate}"
            )
        if (schedule.early_stop is not None or schedule.keeps_best) and not self.evaluation.every:
            name = "schedule.early_stop" if schedule.early_stop is not None else "schedule.keep: best"
            raise ValueError(f"{name} needs evaluations during training: set evaluation.every to a number of steps")
        return self

    @model_validator(mode="after")
    def _countable(self) -> JobSpec:
        steps = self.planned_steps()
        if steps is not None and steps > MOST_STEPS:
            raise ValueError(f"schedule.epochs makes {steps} steps; at most {MOST_STEPS} are run")
        return self

    def planned_steps(self) -> int | None:
        """Number of optimizer steps, where the spec alone says it; None when it takes the data set to know."""
        images = self.data.train_images if isinstance(self.data, DigitsData) else None
        if self.data.max_train_images is not None and images is not None:
            images = min(images, self.data.max_train_images)
        if self.schedule.steps is None and images is None:
            return None
        return self.schedule.resolve(images or 1).steps

    def canonical(self) -> dict[str, Any]:
        """The spec as plain JSON values with every default filled in (a `memory` that nobody set is left out)."""
        return self.model_dump(mode="json")

    def digest(self, *, without: tuple[str, ...] = ()) -> str:
        """SHA-256 of the canonical spec, leaving out the named top-level keys (`name`, `seed`, ...)."""
        plain = {key: value for key, value in self.canonical().items() if key not in without}
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
