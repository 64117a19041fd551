"""Optimizers and the learning rate at each step, as a spec describes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from bcd.spec import AdamWSpec, CosineSpec, ScheduleSpec, SgdSpec


def build_optimizer(models: Sequence[nn.Module], spec: AdamWSpec | SgdSpec) -> torch.optim.Optimizer:
    """The optimizer over the models' trainable parameters; AdamW decays only weights of two and more dimensions."""
    trainable = [p for model in models for p in model.parameters() if p.requires_grad]
    if isinstance(spec, SgdSpec):
        return torch.optim.SGD(trainable, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay)
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.lr, fused=True)


def learning_rate(schedule: ScheduleSpec, step: int) -> float:
    """Learning rate of step 0, 1, ..., a pure function: resuming needs no scheduler state."""
    peak, steps, warmup = schedule.optimizer.lr, schedule.steps, schedule.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    decay = schedule.decay
    if isinstance(decay, CosineSpec):
        progress = (step - warmup) / max(steps - warmup, 1)
        return peak * (decay.final + (1 - decay.final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2)
    return peak * decay.gamma ** sum(step >= milestone * steps for milestone in decay.milestones)
