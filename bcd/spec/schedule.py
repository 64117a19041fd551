"""How long and how to optimise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bcd.spec.base import Fraction, NonNegative, Positive, Strict


class AdamWSpec(Strict):
    """AdamW (decoupled weight decay)."""

    type: Literal["adamw"]
    lr: Positive = Field(1e-3, description="Peak learning rate.")
    weight_decay: NonNegative = Field(0.05, description="Decoupled weight decay; not applied to norms and biases.")


class SgdSpec(Strict):
    """SGD with momentum, as published for GFL (lr 0.01 at batch 16)."""

    type: Literal["sgd"]
    lr: Positive = Field(0.01, description="Peak learning rate.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum.")
    weight_decay: NonNegative = Field(1e-4, description="L2 weight decay.")


OptimizerSpec = Annotated[AdamWSpec | SgdSpec, Field(discriminator="type")]


class CosineSpec(Strict):
    """Cosine decay from the peak to `final` times the peak."""

    type: Literal["cosine"]
    final: Fraction = Field(0.02, description="Learning rate at the end, as a fraction of the peak.")


class MultiStepSpec(Strict):
    """Step decay at fractions of the whole run (1x schedule: 8/12 and 11/12)."""

    type: Literal["multistep"]
    milestones: tuple[Fraction, ...] = Field((8 / 12, 11 / 12), description="Fractions of all steps.")
    gamma: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="Factor at each milestone.")


DecaySpec = Annotated[CosineSpec | MultiStepSpec, Field(discriminator="type")]


class ScheduleSpec(Strict):
    """How long and how to optimise."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)] = Field(1200, description="Optimizer steps.")
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(16, description="Images in a step.")
    optimizer: OptimizerSpec = Field(
        default_factory=lambda: AdamWSpec(type="adamw"), description="Optimizer and its settings."
    )
    decay: DecaySpec = Field(default_factory=lambda: CosineSpec(type="cosine"), description="Learning-rate decay.")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(100, description="Linear learning-rate warm-up from 0.")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Decay of the exponential moving average that is evaluated and exported; 0 turns it off."
    )
    clip_norm: Positive | None = Field(None, description="Clip the gradient's L2 norm to this value.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 autocast on CUDA, fp32 on CPU. Losses are always fp32."
    )
    checkpoint_every: Annotated[int, Field(ge=1)] = Field(200, description="Steps between checkpoints.")
    log_every: Annotated[int, Field(ge=1)] = Field(20, description="Steps between logged metrics.")
