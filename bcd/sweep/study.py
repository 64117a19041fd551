"""A sweep as an Optuna study: what the searcher asks, and what importances are computed from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bcd.sweep.space import Choice, Integer, Parameter, Params, Space, Uniform, Word, active, in_order
from bcd.sweep.spec import SweepSpec, TpeSearch

optuna.logging.set_verbosity(optuna.logging.WARNING)


def new_study(sweep: SweepSpec, *, known: int = 0) -> optuna.Study:
    """An empty study with the sampler that the sweep asks for.

    `known`: trials that will be put in; a sampler that goes on after them draws other numbers than at the start.
    """
    up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    directions = [up if one.larger_is_better else down for one in sweep.objectives]
    return optuna.create_study(directions=directions, sampler=_sampler(sweep, known))


def distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution([str(i) for i in range(len(parameter.values))])
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if isinstance(parameter, Uniform):
        steps = parameter.steps()
        high = steps[-1] if steps else parameter.high
        return FloatDistribution(parameter.low, high, step=parameter.step)
    return FloatDistribution(parameter.low, parameter.high, log=True)


def ask(study: optuna.Study, space: Space) -> tuple[optuna.Trial, Params]:
    """The next trial. Parameters are asked for one after another, so that those that do not apply are left out."""
    trial = study.ask()
    params: Params = {}
    for path in in_order(space):
        parameter = space[path]
        if active(parameter, params):
            params[path] = _suggest(trial, path, parameter)
    return trial, params


def past_trial(
    space: Space,
    params: Mapping[str, Word],
    *,
    values: Sequence[float] | None = None,
    state: optuna.trial.TrialState = optuna.trial.TrialState.COMPLETE,
) -> optuna.trial.FrozenTrial:
    """A trial of an earlier driver, or one that was changed by hand, as the study takes it in."""
    known = {path: word for path, word in params.items() if path in space}
    return optuna.trial.create_trial(
        state=state,
        values=values,
        params={path: _inner(space[path], word) for path, word in known.items()},
        distributions={path: distribution(space[path]) for path in known},
    )


def _sampler(sweep: SweepSpec, known: int) -> optuna.samplers.BaseSampler:
    search = sweep.search
    seed = (getattr(search, "seed", 0) + 7919 * known) % 2**31
    if isinstance(search, TpeSearch):
        with warnings.catch_warnings():
            # Of `group`, without which conditional parameters would be drawn independently of all others.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                n_startup_trials=search.startup, seed=seed, multivariate=True, group=True, constant_liar=True
            )
    return optuna.samplers.RandomSampler(seed=seed)


def _suggest(trial: optuna.Trial, path: str, parameter: Parameter) -> Word:
    if isinstance(parameter, Choice):
        return parameter.words[int(trial.suggest_categorical(path, [str(i) for i in range(len(parameter.values))]))]
    if isinstance(parameter, Integer):
        return trial.suggest_int(path, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
    shape = distribution(parameter)
    assert isinstance(shape, FloatDistribution)
    drawn = trial.suggest_float(path, shape.low, shape.high, step=shape.step, log=shape.log)
    # Six digits are plenty, and a spec that people read. Not beyond the range.
    return min(max(float(f"{drawn:.6g}"), parameter.low), parameter.high)


def _inner(parameter: Parameter, word: Word) -> object:
    return str(parameter.place_of(word)) if isinstance(parameter, Choice) else word
