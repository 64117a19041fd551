"""Which parameters matter: Optuna's PED-ANOVA (Watanabe et al., IJCAI 2023), with how far it can be trusted."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache

from bcd.sweep import SweepSpec
from bcd.sweep.space import Word
from service.sweeps.ranking import Values, complete
from service.sweeps.schemas import Importance, ImportanceOut

ENOUGH = 8  # trials that ran to their end
RESAMPLES = 40

Tried = tuple[Mapping[str, Word], Values]


def importances(spec: SweepSpec, tried: Sequence[Tried]) -> ImportanceOut:
    """Of each parameter the share of what separates good trials from others.

    The interval is over resampled trials (bootstrap, fixed random numbers): wide with few of them. Trials that were
    stopped early are not counted: their values are those of shorter runs.
    """
    whole = [(dict(params), values) for params, values in tried if complete(values)]
    if len(whole) < ENOUGH:
        note = f"it takes {ENOUGH} trials that ran to their end to say what matters; so far {len(whole)}"
        return ImportanceOut(items=[], note=note)
    if len({tuple(values or ())[:1] for _, values in whole}) == 1:
        return ImportanceOut(items=[], note="all trials have the same value; nothing separates them")
    return _computed(spec.model_dump_json(), json.dumps(whole))


@lru_cache(maxsize=256)
def _computed(spec_text: str, tried_text: str) -> ImportanceOut:
    """By its input as text: the same question comes with every look at a sweep, and takes up to seconds."""
    spec, whole = SweepSpec.model_validate_json(spec_text), json.loads(tried_text)
    estimate = _of(spec, whole)
    generator = random.Random(0)
    drawn = [_of(spec, generator.choices(whole, k=len(whole))) for _ in range(RESAMPLES)]
    items = [
        Importance(path=path, value=value, **_interval([one.get(path, 0.0) for one in drawn if one]))
        for path, value in estimate.items()
    ]
    return ImportanceOut(items=sorted(items, key=lambda one: (-one.value, one.path)), note=None)


def _of(spec: SweepSpec, tried: Sequence[Tried]) -> dict[str, float]:
    # Seconds to import; most requests never need it.
    import optuna

    from bcd.sweep.study import new_study, past_trial

    study = new_study(spec.model_copy(update={"objectives": spec.objectives[:1]}))
    study.add_trials(
        [past_trial(spec.space, params, values=[(values or [None])[0] or 0.0]) for params, values in tried]
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that few trials make it inaccurate: the interval says so
            found = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError):  # a resample in which all values are the same
        return {}
    total = sum(found.values())
    return {path: value / total for path, value in found.items()} if total > 0 else {}


def _interval(values: list[float]) -> dict[str, float | None]:
    if len(values) < RESAMPLES // 2:
        return {"low": None, "high": None}
    ordered = sorted(values)
    cut = max(0, round(0.025 * len(ordered)) - 1)
    return {"low": ordered[cut], "high": ordered[-1 - cut]}
