"""A trial as Ray Tune sees it: it follows the trial's job and reports what the job's evaluations found.

The training itself runs where the queue places the job. So a trainable takes no torch, no GPU and next to no CPU, is
used for one trial after another, and may die with its driver at any time.
"""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Trainable

from bcd.sweep import SweepSpec
from bcd.sweep.wire import TrialState
from workers.tune.channel import DriverArgs, SweepChannel
from workers.tune.searcher import OBJECTIVE

SHORTEST, LONGEST = 0.2, 5.0  # seconds between two looks at a job
SHARE = 0.01  # of the time that a trial has taken so far


class TrialFailed(RuntimeError):
    """The job of this trial failed; its cause is the message."""


class JobFollower(Trainable):  # type: ignore[misc]
    """Config: the trial's `number`."""

    def setup(self, config: dict[str, Any], args: DriverArgs, spec: SweepSpec) -> None:
        self._channel, self._spec = SweepChannel(args), spec
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._number: int = new_config["number"]
        self._at = -1
        self._last: float | None = None
        self._best: float | None = None
        self._since = time.monotonic()
        return True

    def step(self) -> dict[str, Any]:
        while True:
            trial = self._channel.look(self._number, after=self._at)
            if trial.reports and not (trial.ended and len(trial.reports) == 1 and trial.values):
                one = trial.reports[0]
                self._at = one.step
                return self._result(one.step, one.value)
            if trial.ended:
                return self._end(trial)
            taken = time.monotonic() - self._since
            time.sleep(min(LONGEST, max(SHORTEST, SHARE * taken)))

    def _result(self, step: int, value: float) -> dict[str, Any]:
        objective = self._spec.objectives[0]
        if self._best is None or (value > self._best) == objective.larger_is_better:
            self._best = value
        self._last = self._best if objective.at == "best" else value
        return {OBJECTIVE: self._last, "step": step, "ended": False}

    def _end(self, trial: TrialState) -> dict[str, Any]:
        if trial.values and trial.values[0] is not None:
            result: dict[str, Any] = {OBJECTIVE: trial.values[0], "values": trial.values}
        elif self._last is not None and trial.state != "failed":
            result = {OBJECTIVE: self._last}  # stopped early, by an earlier driver or by a user
        else:
            raise TrialFailed(trial.cause or f"the job is {trial.state} and has no {self._spec.objectives[0].metric}")
        return {**result, "step": max(self._at, trial.total_steps if trial.values else 0), "ended": True, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the job writes its own checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, see `save_checkpoint`."""
