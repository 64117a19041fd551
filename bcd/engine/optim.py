"""Optimizers and the learning rate at each step, as a spec describes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from bcd.spec import AdamWSpec, CosineSpec, Plan, ScheduleSpec, SgdSpec
from bcd.spec.schedule import ParameterGroup

Named = Iterable[tuple[str, nn.Module]]


def build_optimizer(models: Named, spec: AdamWSpec | SgdSpec) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters of modules, each given with a prefix of its parameters' names.

    AdamW decays only weights of two and more dimensions; `spec.groups` comes on top. Each group of the optimizer
    carries `lr_factor`, which whoever sets the rates must heed. The fused forms can leave out an update without
    asking the device (`found_inf`), which the trainer uses.

    Raises ValueError when a group of the spec fits no parameter.
    """
    used: set[int] = set()
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for model_prefix, model in models:
        for name, parameter, kind in _parameters(model, model_prefix):
            lr, decay = 1.0, 1.0
            for number, group in enumerate(spec.groups):
                if _fits(group, name, kind):
                    used.add(number)
                    lr, decay = group.lr_factor, group.decay_factor
                    break
            if isinstance(spec, AdamWSpec) and parameter.ndim < 2:
                decay = 0.0
            found.setdefault((lr, decay), []).append(parameter)
    if idle := [n for n in range(len(spec.groups)) if n not in used]:
        first = spec.groups[idle[0]]
        raise ValueError(
            f"schedule.optimizer.groups.{idle[0]} fits no trainable parameter (kind {first.kind}, names "
            f"{first.names!r}), or those that it fits belong to a group before it"
        )
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": spec.weight_decay * decay, "lr_factor": lr}
        for (lr, decay), parameters in found.items()
    ]
    if isinstance(spec, SgdSpec):
        sgd = torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, fused=True)
        # The fused form wants all buffers of a group or none; a method in its warm-up gets its first gradient later.
        for parameter in (p for group in groups for p in group["params"] if spec.momentum):
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    return torch.optim.AdamW(groups, lr=spec.lr, fused=True)


def _parameters(model: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Parameter, str]]:
    """(name, parameter, kind) of all trainable parameters; kind is norm, bias or other."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        norm = isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.modules.batchnorm._NormBase)
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                name = ".".join(part for part in (prefix, path, leaf) if part)
                yield name, parameter, "norm" if norm else "bias" if leaf == "bias" else "other"


def _fits(group: ParameterGroup, name: str, kind: str) -> bool:
    return group.kind in ("any", kind) and fnmatchcase(name, group.names)


def learning_rate(schedule: ScheduleSpec, plan: Plan, step: int) -> float:
    """Learning rate of step 0, 1, ..., a pure function: resuming needs no scheduler state.

    Linear warm-up as MMDetection's: `start + (1 - start) * step / warmup` of the peak, the peak being reached after
    `warmup` steps; without `warmup_start`, (step + 1) / warmup.
    """
    peak, warmup = schedule.optimizer.lr, schedule.warmup_steps
    if step < warmup:
        start = schedule.warmup_start
        return peak * ((step + 1) / warmup if start is None else start + (1 - start) * step / warmup)
    decay = schedule.decay
    if isinstance(decay, CosineSpec):
        progress = (step - warmup) / max(plan.steps - warmup, 1)
        return peak * (decay.final + (1 - decay.final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2)
    return peak * decay.gamma ** sum(step >= milestone for milestone in plan.milestones)
