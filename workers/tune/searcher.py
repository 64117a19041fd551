"""What to try next: a Ray Tune searcher that first hands out what earlier drivers began, then asks Optuna or a grid."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from optuna.trial import TrialState as Outcome
from ray.tune.search import Searcher

from bcd.sweep import GridSearch, NoScheduler, SweepSpec, grid
from bcd.sweep.space import Params
from bcd.sweep.study import ask, new_study, past_trial
from bcd.sweep.wire import NewTrial, TrialState
from workers.tune.channel import Refused, Spent, SweepChannel

OBJECTIVE = "objective"


class JobSearcher(Searcher):  # type: ignore[misc]
    """Makes a job for each trial before Tune knows of it: the job's number and parameters are what survives.

    The first objective under `objective`, all of them under `values`, come back as results of a trial.
    """

    def __init__(self, spec: SweepSpec, channel: SweepChannel, known: Sequence[TrialState]):
        super().__init__(metric=OBJECTIVE, mode=spec.direction)
        self._spec, self._channel = spec, channel
        self._study = new_study(spec, known=len(known))
        self._grid: Iterator[Params] | None = None
        # A scheduler learns from every trial there was, so those that ended are told again; without one the study
        # alone has to know them.
        replay = not isinstance(spec.scheduler, NoScheduler)
        if isinstance(spec.search, GridSearch):
            self._grid = islice(_mixed(grid(spec.space)) if replay else grid(spec.space), len(known), None)
        self._again = [trial for trial in known if replay or not trial.ended]
        for trial in known:
            if not replay and trial.ended:
                self._tell_past(trial)
        self._count = len(known)
        self._running: dict[str, tuple[int, int | None]] = {}  # Tune's id -> our number, the study's number
        self.failure: BaseException | None = None

    def suggest(self, trial_id: str) -> Any:
        try:
            return self._suggest(trial_id)
        except Spent:
            return self.FINISHED
        except BaseException as error:  # Tune would only log it
            self.failure = error
            return self.FINISHED

    def _suggest(self, trial_id: str) -> Any:
        if self._again:
            trial = self._again.pop(0)
            self._running[trial_id] = trial.number, self._begin_past(trial)
            return {"number": trial.number}
        place, params = self._next()
        if params is None:
            return self.FINISHED
        try:
            made = self._channel.add(NewTrial(number=self._count + 1, params=params))
        except Refused as error:
            # The checks before the first trial try many combinations, not all.
            raise RuntimeError(f"the search came to a combination that is no job spec: {error}") from None
        self._count += 1
        self._running[trial_id] = made.number, place
        return {"number": made.number}

    def _next(self) -> tuple[int | None, Params | None]:
        if self._grid is not None:
            return None, next(self._grid, None)
        trial, params = ask(self._study, self._spec.space)
        return trial.number, params

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        pass

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number, place = self._running.pop(trial_id, (0, None))
        if number and result is not None and not result.get("ended") and not error and self.failure is None:
            try:
                self._channel.stop(number, _why(self._spec, result))
            except BaseException as failure:
                self.failure = failure
        if place is None:
            return
        values = (result or {}).get("values")
        if not error and values and all(value is not None for value in values):
            self._study.tell(place, values)
        elif not error and result and len(self._spec.objectives) == 1 and OBJECTIVE in result:
            # Stopped early: what it had reached then is worth something to the search.
            self._study.tell(place, result[OBJECTIVE], state=Outcome.COMPLETE)
        else:
            self._study.tell(place, state=Outcome.FAIL)

    def _tell_past(self, trial: TrialState) -> None:
        if trial.values and all(value is not None for value in trial.values):
            values = [float(value) for value in trial.values if value is not None]
            self._study.add_trial(past_trial(self._spec.space, trial.params, values=values))
        else:
            self._study.add_trial(past_trial(self._spec.space, trial.params, state=Outcome.FAIL))

    def _begin_past(self, trial: TrialState) -> int | None:
        if self._grid is not None:
            return None
        self._study.add_trial(past_trial(self._spec.space, trial.params, state=Outcome.RUNNING))
        return int(self._study.trials[-1].number)

    def __deepcopy__(self, memo: dict[int, Any]) -> JobSearcher:
        """Tune copies what it is given; there is one searcher."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given, to go on from after a crash; we go on from the service instead."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the service knows everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""


def _mixed(combinations: Iterator[Params]) -> Iterator[Params]:
    """In an order that is always the same and has none: where a grid climbs towards the good values, each trial is
    among the best so far, and a scheduler stops none of them.
    """
    while some := list(islice(combinations, 100_000)):
        random.Random(0).shuffle(some)
        yield from some


def _why(spec: SweepSpec, result: dict[str, Any]) -> str:
    metric = spec.objectives[0].metric
    word = {"asha": "ASHA", "hyperband": "HyperBand", "median": "the median rule"}.get(spec.scheduler.type, "the sweep")
    return f"stopped by {word} at step {result.get('step')}: {metric} {result.get(OBJECTIVE, 0.0):.2f}"
