"""Which parameters matter: Optuna's PED-ANOVA (Watanabe et al., IJCAI 2023), with how far it can be trusted."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from bcd.sweep import SweepSpec
from bcd.sweep.space import Word
from service.sweeps.ranking import Values, complete
from service.sweeps.schemas import Importance

ENOUGH = 8  # trials that ran to their end
RESAMPLES = 40

Tried = tuple[Mapping[str, Word], Values]


def importances(spec: SweepSpec, tried: Sequence[Tried]) -> tuple[list[Importance], str | None]:
    """Of each parameter the share of what separates good trials from others, the largest first; and a note.

    The interval is over resampled trials (bootstrap, fixed random numbers): wide with few of them. Trials that were
    stopped early are not counted: their values are those of shorter runs.
    """
    whole = [one for one in tried if complete(one[1])]
    if len(whole) < ENOUGH:
        return [], f"it takes {ENOUGH} trials that ran to their end to say what matters; so far {len(whole)}"
    if len({tuple(values or ()) for _, values in whole}) == 1:
        return [], "all trials have the same value; nothing separates them"
    estimate = _of(spec, whole)
    generator = random.Random(0)
    drawn = [_of(spec, generator.choices(whole, k=len(whole))) for _ in range(RESAMPLES)]
    out = [
        Importance(path=path, value=value, **_interval([one.get(path, 0.0) for one in drawn if one]))
        for path, value in estimate.items()
    ]
    return sorted(out, key=lambda one: (-one.value, one.path)), None


def _of(spec: SweepSpec, tried: Sequence[Tried]) -> dict[str, float]:
    # Seconds to import; most requests never need it.
    import optuna

    from bcd.sweep.study import new_study, past_trial

    study = new_study(spec.model_copy(update={"objectives": spec.objectives[:1]}))
    study.add_trials(
        [past_trial(spec.space, params, values=[(values or [None])[0] or 0.0]) for params, values in tried]
    )
    try:
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
