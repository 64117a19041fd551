"""Which tensor was the first to become infinite or NaN: a step run again, with every module watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn


def first_non_finite(modules: Mapping[str, nn.Module], run: Callable[[], dict[str, Tensor]]) -> str | None:
    """The first tensor that is not finite in `run()` and in the backward pass of its `loss`, in words.

    Weights and buffers come first, then outputs of modules in the order of their computation, then loss terms, then
    gradients from the end of the network to its start. None when all are finite. Waits for the device; leaves
    gradients behind. `run` is called in any case: processes that train together call it at the same time.
    """
    found: list[str] = []
    for prefix, module in modules.items():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not found and (fault := _fault(tensor)):
                found.append(f"{prefix} {name} ({fault} before the step)")
    handles = []

    def watch(label: str) -> Callable[..., None]:
        def look(_module: nn.Module, _given: Any, out: Any) -> None:
            if not found:
                for where, tensor in _tensors(out):
                    if fault := _fault(tensor):
                        found.append(f"output{where} of {label} ({fault})")
                        return

        return look

    for prefix, module in modules.items():
        for name, part in module.named_modules():
            handles.append(part.register_forward_hook(watch(f"{prefix} {name}".strip())))
    try:
        terms = run()
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    for name, value in terms.items():
        if name != "loss" and (fault := _fault(value)):
            return f"loss term {name} ({fault}; every module's output is finite)"
    for module in modules.values():
        module.zero_grad(set_to_none=True)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    for prefix, module in modules.items():
        for name, parameter in reversed(list(module.named_parameters())):
            if parameter.grad is not None and (fault := _fault(parameter.grad)):
                return f"gradient of {prefix} {name} ({fault}; the loss itself is finite)"
    return None


def _fault(tensor: Tensor) -> str | None:
    if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
        return None
    bad = ~torch.isfinite(tensor)
    kind = "NaN" if bool(tensor.isnan().any()) else "infinite"
    count = int(bad.sum())
    return kind if tensor.ndim == 0 else f"{kind} in {count:,} of {tensor.numel():,} values"


def _tensors(value: Any, where: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors in a module's output, with their place in it."""
    if isinstance(value, Tensor):
        yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for n, item in enumerate(value):
            yield from _tensors(item, f"{where}[{n}]")
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name), f"{where}.{field.name}")
