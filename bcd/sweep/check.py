"""What is wrong with a sweep, found before its first trial: each value and many combinations go through the job spec's
own checks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from bcd.spec import DigitsData, JobSpec, SpecError, VocData, parse_spec
from bcd.sweep.grid import countable, grid
from bcd.sweep.space import Choice, Params, active, in_order, pointer, trial_values
from bcd.sweep.spec import COSTS, MEASURES, GridSearch, NoScheduler, SweepSpec

Fault = tuple[str, str]
Also = Callable[[JobSpec], list[Fault]]
TRIED = 200  # combinations
_OURS = {
    "seed": "the search runs on job.seed, and `promote` adds seeds",
    "name": "a trial is named after its sweep and its number",
    "version": "it is the format's version",
}

# Parameters that change how many steps a trial has.
_LENGTHS = {"schedule", "schedule.steps", "schedule.epochs", "schedule.batch_size", "data", "data.train_images"}


def check(sweep: SweepSpec, also: Also = lambda _: []) -> list[Fault]:
    """(JSON pointer, message) for each fault; none: every combination that was tried is a job spec that can be used.

    `also` finds further faults of a job spec (its teacher, its paths), with pointers into it.
    """
    try:
        base = parse_spec(sweep.job)
    except SpecError as error:
        return [("/job" + place, message) for place, message in error.errors]
    faults = [("/job" + place, message) for place, message in also(base)]
    faults = faults or [*_space(sweep), *_search(sweep, base), *_objectives(sweep, base)]
    if faults:
        return faults
    return [*_single(sweep, base, also)] or [*_combined(sweep, base, also)]


def _space(sweep: SweepSpec) -> Iterator[Fault]:
    for path, parameter in sweep.space.items():
        if path.split(".")[0] in _OURS:
            yield pointer(path), f"{path} cannot be swept: {_OURS[path.split('.')[0]]}"
        for other, words in (parameter.when or {}).items():
            at, named = f"{pointer(path)}/when/{other}", sweep.space.get(other)
            if not isinstance(named, Choice):
                yield at, f"{other} is no parameter of this space that is a choice"
            else:
                for word in words:
                    if word not in named.words:
                        yield at, f"{word!r} is none of the values of {other}: {_some(named.words)}"
    try:
        in_order(sweep.space)
    except SpecError as error:
        yield from error.errors


def _search(sweep: SweepSpec, base: JobSpec) -> Iterator[Fault]:
    if isinstance(sweep.search, GridSearch):
        for path in countable(sweep.space):
            yield pointer(path), "a grid needs values that can be counted: give a step, or take a choice"
        if len(sweep.objectives) > 1:
            yield "/search/type", "a grid ranks by one objective; take tpe or random for several"
    if isinstance(sweep.scheduler, NoScheduler):
        return
    if len(sweep.objectives) > 1:
        yield "/scheduler/type", "a scheduler stops trials by one objective; with several take none"
    if not base.evaluation.every and "evaluation.every" not in sweep.space:
        yield "/job/evaluation/every", "a scheduler needs evaluations during training: set it to a number of steps"
    steps = base.planned_steps()
    if steps is not None and sweep.scheduler.grace >= steps and not _LENGTHS & set(sweep.space):
        yield "/scheduler/grace", f"a trial has {steps} steps; with a grace of {sweep.scheduler.grace} none is stopped"


def _objectives(sweep: SweepSpec, base: JobSpec) -> Iterator[Fault]:
    classes = _classes(base)
    for i, objective in enumerate(sweep.objectives):
        at, metric = f"/objectives/{i}/metric", objective.metric
        if metric in [one.metric for one in sweep.objectives[:i]]:
            yield at, f"{metric} is an objective already"
        elif metric.startswith("AP/"):
            if classes is not None and metric[3:] not in classes:
                yield at, f"the data set has no class {metric[3:]!r}: {_some(classes)}"
        elif metric not in MEASURES + COSTS:
            yield at, f"no evaluation yields {metric!r}; take {', '.join(MEASURES)}, AP/CLASS, {', '.join(COSTS)}"
        elif metric in COSTS and i == 0:
            yield at, f"the first objective must be an accuracy; name {metric} after it"


def _classes(base: JobSpec) -> list[str] | None:
    """The class names, where the spec alone says them."""
    if isinstance(base.data, DigitsData):
        return [str(digit) for digit in range(10)]
    if isinstance(base.data, VocData):
        return list(base.data.classes) if base.data.classes else None
    return None


def _single(sweep: SweepSpec, base: JobSpec, also: Also) -> Iterator[Fault]:
    """Each value of each parameter, with the others at the first value that lets it take part."""
    for path, parameter in sweep.space.items():
        told = set()
        for word in parameter.examples():
            fault = _tried(sweep, base, {**_parents(sweep, path), path: word}, also)
            if fault is not None and fault not in told:
                told.add(fault)
                yield pointer(path), f"{path} = {_short(word)}: {fault}"


def _combined(sweep: SweepSpec, base: JobSpec, also: Also) -> Iterator[Fault]:
    for params in _combinations(sweep):
        fault = _tried(sweep, base, params, also)
        if fault is not None:
            words = ", ".join(f"{path} = {_short(word)}" for path, word in params.items())
            yield "/space", f"{words}: {fault}; narrow the space, or tie parameters together with `when`"
            return


def _tried(sweep: SweepSpec, base: JobSpec, params: Params, also: Also) -> str | None:
    """The first fault of a trial's spec."""
    try:
        spec = parse_spec(trial_values(base.canonical(), sweep.space, params))
    except SpecError as error:
        place, message = error.errors[0]
        return message if place.startswith("/space") else f"{place or '/'}: {message}"
    faults = also(spec)
    return f"{faults[0][0]}: {faults[0][1]}" if faults else None


def _parents(sweep: SweepSpec, path: str) -> Params:
    """What must hold for a parameter to take part."""
    params: Params = {}
    for other, words in (sweep.space[path].when or {}).items():
        params = {**_parents(sweep, other), **params, other: words[0]}
    return params


def _combinations(sweep: SweepSpec) -> Iterator[Params]:
    if not countable(sweep.space):
        some = list(islice(grid(sweep.space), TRIED + 1))
        if len(some) <= TRIED:
            yield from some
            return
    generator = random.Random(0)
    for _ in range(TRIED):
        params: Params = {}
        for path in in_order(sweep.space):
            if active(sweep.space[path], params):
                params[path] = generator.choice(_values(sweep.space[path]))
        yield params


def _values(parameter: Any) -> tuple[Any, ...]:
    if isinstance(parameter, Choice):
        return parameter.words
    steps = parameter.steps()
    return tuple(steps[:: max(1, len(steps) // 20)]) if steps else tuple(parameter.examples())


def _some(words: Any) -> str:
    return ", ".join(str(word) for word in list(words)[:20])


def _short(word: Any) -> str:
    text = str(word)
    return text if len(text) <= 60 else text[:57] + "..."
