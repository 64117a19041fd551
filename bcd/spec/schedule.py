"""How long and how to optimise."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from bcd.spec.base import Fraction, NonNegative, Positive, Strict

DEFAULT_STEPS = 1200
MOST_STEPS = 10_000_000

# The published settings that `schedule.preset` names: MMDetection's 1x and 2x schedules at batch 16.
_PUBLISHED: dict[str, Any] = {
    "batch_size": 16,
    "optimizer": {"type": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
    "warmup_steps": 500,
    "warmup_start": 0.001,
}
PRESETS: dict[str, dict[str, Any]] = {
    "1x": {**_PUBLISHED, "epochs": 12, "decay": {"type": "multistep", "epochs": [8, 11], "gamma": 0.1}},
    "2x": {**_PUBLISHED, "epochs": 24, "decay": {"type": "multistep", "epochs": [16, 22], "gamma": 0.1}},
}


class ParameterGroup(Strict):
    """Settings of some parameters. They are chosen by kind and by name; the first group that fits a parameter counts.

    Names are those of the student's state_dict (`backbone.layer1.0.conv1.weight`); parameters of the methods begin
    with `methods.N.`.
    """

    kind: Literal["any", "bias", "norm"] = Field(
        "any", description="bias: biases outside normalisation layers; norm: weights and biases of these layers."
    )
    names: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        "*", description="Pattern of parameter names, `*` for any characters: `backbone.*`."
    )
    lr_factor: NonNegative = Field(1.0, description="Factor on the learning rate (FCOS as published: 2 for biases).")
    decay_factor: NonNegative = Field(
        1.0, description="Factor on the weight decay (Swin as published: 0 for norms and position biases)."
    )


class _OptimizerSpec(Strict):
    groups: Annotated[tuple[ParameterGroup, ...], Field(max_length=32)] = Field(
        (), description="Parameters with a learning rate or weight decay of their own."
    )


class AdamWSpec(_OptimizerSpec):
    """AdamW (decoupled weight decay)."""

    type: Literal["adamw"]
    lr: Positive = Field(1e-3, description="Peak learning rate.")
    weight_decay: NonNegative = Field(0.05, description="Decoupled weight decay; not applied to norms and biases.")


class SgdSpec(_OptimizerSpec):
    """SGD with momentum, as published for GFL (lr 0.01 at batch 16)."""

    type: Literal["sgd"]
    lr: Positive = Field(0.01, description="Peak learning rate.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum.")
    weight_decay: NonNegative = Field(1e-4, description="L2 weight decay, of all parameters unless `groups` says so.")


OptimizerSpec = Annotated[AdamWSpec | SgdSpec, Field(discriminator="type")]


class CosineSpec(Strict):
    """Cosine decay from the peak to `final` times the peak."""

    type: Literal["cosine"]
    final: Fraction = Field(0.02, description="Learning rate at the end, as a fraction of the peak.")


class MultiStepSpec(Strict):
    """Step decay. Where it happens is given in one of three units; by default at 8/12 and 11/12 of all steps (1x)."""

    type: Literal["multistep"]
    milestones: tuple[Fraction, ...] | None = Field(None, description="Fractions of all steps.")
    epochs: tuple[Positive, ...] | None = Field(None, description="Ends of these epochs (1x: 8 and 11).")
    steps: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, description="After these many steps.")
    gamma: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="Factor at each milestone.")

    @model_validator(mode="after")
    def _one_unit(self) -> MultiStepSpec:
        given = [name for name in ("milestones", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of milestones, epochs and steps, not {' and '.join(given)}")
        return self


DecaySpec = Annotated[CosineSpec | MultiStepSpec, Field(discriminator="type")]


class EarlyStopSpec(Strict):
    """End the run when evaluations no longer get better. Needs `evaluation.every`."""

    metric: Literal["AP", "AP50", "AP75", "APs", "APm", "APl"] = Field("AP", description="What is watched.")
    patience: Annotated[int, Field(ge=1, le=10_000)] = Field(
        5, description="Evaluations in a row without a gain, after which the run ends."
    )
    min_delta: NonNegative = Field(0.0, description="Points by which an evaluation must be better to count as a gain.")


class ScheduleSpec(Strict):
    """How long and how to optimise."""

    preset: Literal["1x", "2x"] | None = Field(
        None,
        description="Published settings (MMDetection's 1x and 2x: SGD 0.01 at batch 16, 12 or 24 epochs, a tenth at "
        "2/3 and 11/12, linear warm-up of 500 steps from 0.001). They are written out when the spec is read; what is "
        "given beside them counts.",
    )
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = Field(
        None, description=f"Optimizer steps (default {DEFAULT_STEPS}, unless epochs are given)."
    )
    epochs: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        None,
        description="Length in epochs, in place of steps. An epoch is ceil(training images / batch_size) steps, as "
        "published schedules count.",
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        16, description="Images in an optimizer step, over all processes and parts of an accumulated step."
    )
    accumulate: Annotated[int, Field(ge=1, le=1024)] = Field(
        1,
        description="Parts into which a step's images are cut, run one after another to save memory; their gradients "
        "add up. Each part's losses are divided by that part's own positives, then averaged.",
    )
    optimizer: OptimizerSpec = Field(
        default_factory=lambda: AdamWSpec(type="adamw"), description="Optimizer and its settings."
    )
    decay: DecaySpec = Field(default_factory=lambda: CosineSpec(type="cosine"), description="Learning-rate decay.")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(100, description="Steps of linear learning-rate warm-up.")
    warmup_start: Fraction | None = Field(
        None,
        description="Learning rate of the first step as a fraction of the peak (published: 0.001). Default: "
        "1 / warmup_steps.",
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Decay of the exponential moving average that is evaluated and exported; 0 turns it off."
    )
    clip_norm: Positive | None = Field(
        None, description="Clip the L2 norm of the gradient, of the student and of the methods' parameters together."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 autocast on CUDA, fp32 on CPU. Losses are always fp32."
    )
    compile: Literal["off", "inductor", "aot_eager"] = Field(
        "off",
        description="torch.compile of teacher and student: inductor makes kernels (a C++ compiler is needed); "
        "aot_eager only traces, to look for faults.",
    )
    early_stop: EarlyStopSpec | None = Field(None, description="End early when evaluations no longer get better.")
    keep: Literal["last", "best"] | None = Field(
        None,
        description="Which weights are the result: those of the last step, or of the best evaluation (by "
        "early_stop.metric, else AP). Default: best with early_stop, else last.",
    )
    checkpoint_every: Annotated[int, Field(ge=1)] = Field(200, description="Steps between checkpoints.")
    log_every: Annotated[int, Field(ge=1)] = Field(20, description="Steps between logged metrics.")

    @model_validator(mode="before")
    @classmethod
    def _write_out(cls, value: Any) -> Any:
        """Put a preset's settings in, and the default length where none is given."""
        if not isinstance(value, dict):
            return value
        preset = value.get("preset")
        if isinstance(preset, str) and preset in PRESETS:
            length = value.get("steps") is not None  # a number of steps takes the place of the preset's epochs
            known = {key: item for key, item in PRESETS[preset].items() if not (length and key == "epochs")}
            if length and "decay" not in value:
                known["decay"] = {"type": "multistep", "milestones": _fractions(PRESETS[preset])}
            value = {**known, **value, "preset": None}
        if value.get("steps") is None and value.get("epochs") is None:
            value = {**value, "steps": DEFAULT_STEPS}
        return value

    @model_validator(mode="after")
    def _fits(self) -> ScheduleSpec:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate ({self.accumulate}) must divide batch_size ({self.batch_size}): batch_size counts all "
                "images of an optimizer step"
            )
        decay = self.decay
        if isinstance(decay, MultiStepSpec):
            ends: list[tuple[str, tuple[float, ...] | None, float | None]] = [
                ("epochs", decay.epochs, self.epochs), ("steps", decay.steps, self.steps)
            ]  # fmt: skip
            for unit, marks, end in ends:
                if marks and end is not None and max(marks) > end:
                    raise ValueError(f"decay.{unit} names {max(marks):g}, after the end of the run ({end:g})")
        if self.warmup_start is not None and self.warmup_steps == 0:
            raise ValueError("warmup_start without warmup_steps would do nothing")
        return self

    @property
    def keeps_best(self) -> bool:
        """Whether the best evaluated weights are the result, not the last ones."""
        return self.keep == "best" or (self.keep is None and self.early_stop is not None)

    def epoch_steps(self, images: int) -> int:
        """Steps of one epoch over this many training images."""
        return math.ceil(images / self.batch_size)

    def resolve(self, images: int) -> Plan:
        """Length and milestones in steps, for a data set of this many training images."""
        epoch = self.epoch_steps(images)
        steps = self.steps if self.steps is not None else max(1, round((self.epochs or 0) * epoch))
        marks: tuple[float, ...] = ()
        if isinstance(self.decay, MultiStepSpec):
            if self.decay.steps is not None:
                marks = self.decay.steps
            elif self.decay.epochs is not None:
                marks = tuple(round(mark * epoch) for mark in self.decay.epochs)
            else:
                marks = tuple(mark * steps for mark in self.decay.milestones or (8 / 12, 11 / 12))
        return Plan(steps, marks)


class Plan(NamedTuple):
    """A schedule once the number of training images is known: steps in all, and the steps of a multi-step decay."""

    steps: int
    milestones: tuple[float, ...]


def _fractions(preset: dict[str, Any]) -> list[float]:
    return [epoch / preset["epochs"] for epoch in preset["decay"]["epochs"]]
