"""What a run measures between two reports. The device is asked only when a report is due."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from bcd.engine.processes import Processes


@dataclass(frozen=True)
class Window:
    """Means over the steps since the last report, and the first of these steps (from 0) with a value that is not
    finite, with the names of such values; None when all are finite."""

    values: dict[str, float]
    bad_step: int | None
    bad_names: tuple[str, ...]


class Log:
    """Loss terms and gradient norms of each step, as tensors on the device."""

    def __init__(self, processes: Processes):
        self._processes = processes
        self._steps: list[int] = []
        self._terms: list[dict[str, Tensor]] = []
        self.restart()

    def restart(self) -> None:
        """Leave out the time since the last report (an evaluation ran)."""
        self._start, self._images = time.perf_counter(), 0

    def add(self, step: int, terms: dict[str, Tensor], norm: Tensor, images: int) -> None:
        """The terms of a step (from 0); `images` is how many this process trained on."""
        self._steps.append(step)
        self._terms.append({**{name: value.detach() for name, value in terms.items()}, "grad_norm": norm.detach()})
        self._images += images

    def flush(self) -> Window:
        """Means over the steps in which a term was there, over all processes."""
        names = sorted({name for terms in self._terms for name in terms})
        flat = torch.stack([terms[name].float() for terms in self._terms for name in names if name in terms]).cpu()
        columns: dict[str, list[int]] = {name: [] for name in names}
        bad: dict[int, list[str]] = {}
        finite = torch.isfinite(flat).tolist()
        place = 0
        for step, terms in zip(self._steps, self._terms, strict=True):
            for name in names:
                if name in terms:
                    columns[name].append(place)
                    if not finite[place]:
                        bad.setdefault(step, []).append(name)
                    place += 1
        means = self._processes.mean(torch.stack([flat[columns[name]].mean() for name in names]))
        values = {_label(name): float(mean) for name, mean in zip(names, means, strict=True)}
        if self._images:
            seconds = max(time.perf_counter() - self._start, 1e-9)
            values["images_per_second"] = self._images * self._processes.world / seconds
        self._steps, self._terms = [], []
        self.restart()
        if bool(torch.isfinite(means).all()):
            return Window(values, None, ())
        # The norm is that of the common gradient: all processes come here together.
        everyone = self._processes.gather(bad)
        first = min((step for each in everyone for step in each), default=None)
        found = sorted({name for each in everyone for name in each.get(first, ())} - {"loss"})
        return Window(values, first, tuple(_label(name) for name in found))


def _label(name: str) -> str:
    return name if name in ("loss", "grad_norm") else f"loss/{name}"
