"""The sweep spec: a job spec, a space around it, how to search it, when to stop, and what to do with the best."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, model_validator

from bcd.spec.base import Positive, SpecError, Strict
from bcd.spec.parse import message_of, pointer_of
from bcd.sweep.space import Space

Seed = Annotated[int, Field(ge=0, lt=2**31)]
COSTS = ("parameters", "gflops", "latency_ms")
MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
MOST_TRIALS = 10_000


class GridSearch(Strict):
    """Every combination once. Ranges need steps."""

    type: Literal["grid"]


class RandomSearch(Strict):
    """Independent draws: hard to beat when the budget is small and many parameters matter."""

    type: Literal["random"]
    seed: Seed = 0


class TpeSearch(Strict):
    """Optuna's Tree-structured Parzen Estimator (Bergstra et al. 2011); with several objectives multi-objective TPE."""

    type: Literal["tpe"]
    seed: Seed = 0
    startup: Annotated[int, Field(ge=1, le=1000)] = Field(10, description="Random trials before it learns.")


SearchSpec = Annotated[GridSearch | RandomSearch | TpeSearch, Field(discriminator="type")]


class NoScheduler(Strict):
    """Every trial runs to its end."""

    type: Literal["none"]


class _Scheduler(Strict):
    grace: Annotated[int, Field(ge=1)] = Field(description="Steps that every trial gets before it may be stopped.")


class AshaScheduler(_Scheduler):
    """Asynchronous successive halving (Li et al. 2020): at steps grace, grace * reduction, and so on, trials below the
    best 1/reduction of those that came so far are stopped.
    """

    type: Literal["asha"]
    reduction: Annotated[int, Field(ge=2, le=10)] = 3


class HyperbandScheduler(_Scheduler):
    """Asynchronous HyperBand: ASHA in several brackets, the later of which stop later."""

    type: Literal["hyperband"]
    reduction: Annotated[int, Field(ge=2, le=10)] = 3
    brackets: Annotated[int, Field(ge=2, le=5)] = 3


class MedianScheduler(_Scheduler):
    """Stop a trial whose best value is below the median of the other trials' running means at the same step."""

    type: Literal["median"]
    least: Annotated[int, Field(ge=1, le=1000)] = Field(3, description="Trials to compare with, before any is stopped.")


SchedulerSpec = Annotated[
    NoScheduler | AshaScheduler | HyperbandScheduler | MedianScheduler, Field(discriminator="type")
]


class Objective(Strict):
    """What makes one trial better than another."""

    metric: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        "AP",
        description="AP, AP50, AP75, APs, APm, APl, AP/CLASS, or a cost of the student: parameters, gflops (of one "
        "image), latency_ms (of one image on the device that trained it).",
    )
    mode: Literal["max", "min"] | None = Field(None, description="Default: max for accuracy, min for costs.")
    at: Literal["final", "best"] = Field(
        "final",
        description="final: the final evaluation, of the weights that schedule.keep chooses. best: the best evaluation "
        "of the run; kinder to unstable runs, and optimistic.",
    )

    @property
    def larger_is_better(self) -> bool:
        return (self.mode or ("min" if self.metric in COSTS else "max")) == "max"


class Budget(Strict):
    """When no further trial begins; those that run are finished. What is not given does not count."""

    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = Field(None, description="Default with grid: all.")
    gpu_hours: Positive | None = Field(None, description="GPUs times hours over all attempts of the trials.")
    hours: Positive | None = Field(None, description="Since the sweep began to search; pauses do not count.")


class Promotion(Strict):
    """Train the best trials again on more seeds, because the best of many single runs is lucky by selection."""

    top: Annotated[int, Field(ge=1, le=50)] = Field(3, description="How many of the best.")
    seeds: Annotated[int, Field(ge=2, le=50)] = Field(
        3,
        description="Runs of each in the end. The search's own run is not one of them: it was chosen for its luck. "
        "Seeds are job.seed + 1, job.seed + 2, and so on.",
    )
    default: bool = Field(
        True, description="Also the base spec as it is, on the same seeds: does the winner beat the untuned default?"
    )


class SweepSpec(Strict):
    """A search for the best settings of a job."""

    version: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")] = "sweep"
    job: dict[str, JsonValue] = Field(description="The job spec around which is searched; its seed is the search's.")
    space: Annotated[Space, Field(min_length=1, max_length=50)] = Field(
        description="Parameters by their path in the job spec: `methods.0.cls_weight`."
    )
    search: SearchSpec = Field(default_factory=lambda: TpeSearch(type="tpe"))
    scheduler: SchedulerSpec = Field(default_factory=lambda: NoScheduler(type="none"))
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=3)] = Field(
        default_factory=lambda: (Objective(),), description="Several: their Pareto front is searched (tpe, random)."
    )
    budget: Budget = Field(default_factory=Budget)
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(4, description="Trials that are under way at a time.")
    promote: Promotion | None = None
    equal_failures: Annotated[int, Field(ge=1, le=1000)] = Field(
        5, description="So many trials in a row that fail with the same cause end the sweep."
    )

    @model_validator(mode="after")
    def _budget(self) -> SweepSpec:
        grid = isinstance(self.search, GridSearch)
        if not grid and self.budget == Budget():
            raise ValueError("budget is missing: give budget.trials, budget.gpu_hours or budget.hours")
        return self

    @property
    def direction(self) -> Literal["max", "min"]:
        """Of the first objective, which is what schedulers look at."""
        return "max" if self.objectives[0].larger_is_better else "min"

    def canonical(self) -> dict[str, Any]:
        """Plain JSON values with every default filled in."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True).encode()).hexdigest()


def parse_sweep(value: Any) -> SweepSpec:
    """The form of a sweep spec; what it means is for `check`. Raises `SpecError` with pointers."""
    try:
        return SweepSpec.model_validate(value)
    except ValidationError as error:
        raise SpecError([(pointer_of(value, e["loc"]), message_of(dict(e))) for e in error.errors()]) from None
