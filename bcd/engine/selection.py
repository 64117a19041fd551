"""Evaluations during training: the best one so far, its weights, and when to give up."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bcd.spec import ScheduleSpec


class Selection:
    """Keeps count of evaluations and, where the best weights are the result, those weights on the host.

    Its state is part of every checkpoint, so that a resumed run decides as an uninterrupted one.
    """

    def __init__(self, schedule: ScheduleSpec):
        stop = schedule.early_stop
        self.metric = stop.metric if stop else "AP"
        self._keeps, self._stop = schedule.keeps_best, stop
        self.evaluated = 0  # the last step that was judged
        self.best_step = 0
        self._best: float | None = None
        self._gain: float | None = None  # the last value that counted as a gain
        self._without_gain = 0
        self._weights: dict[str, Tensor] | None = None

    @property
    def exhausted(self) -> bool:
        """Whether early stopping ends the run."""
        return self._stop is not None and self._without_gain >= self._stop.patience

    def add(self, step: int, results: dict[str, Any], model: nn.Module) -> None:
        """Take in the evaluation of a step. An undefined metric (no such objects) never counts as a gain."""
        value = results.get(self.metric)
        self.evaluated = step
        if value is not None and (self._best is None or value > self._best):
            self._best, self.best_step = float(value), step
            if self._keeps:
                # Best weights on the host: a copy on the device would cost a model's memory for the whole run.
                self._weights = {k: v.detach().to("cpu", copy=True) for k, v in model.state_dict().items()}
        least = self._stop.min_delta if self._stop else 0.0
        if value is not None and (self._gain is None or value > self._gain + least):
            self._gain, self._without_gain = float(value), 0
        else:
            self._without_gain += 1

    def load_best(self, model: nn.Module) -> None:
        """Put the best weights into the model, where they are the result."""
        if self._weights is not None:
            model.load_state_dict(self._weights)

    @property
    def has_best(self) -> bool:
        return self._weights is not None

    def describe(self) -> str:
        best = "none" if self._best is None else f"{self._best:.2f}"
        return (
            f"{self.metric} has not risen for {self._without_gain} evaluations (best: {best} at step {self.best_step})"
        )

    def state(self) -> dict[str, Any]:
        names = ("evaluated", "best_step", "_best", "_gain", "_without_gain", "_weights")
        return {name: getattr(self, name) for name in names}

    def load(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
