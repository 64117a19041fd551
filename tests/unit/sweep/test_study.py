"""The study behind a search: it asks within the space, and goes on from trials of before."""

from __future__ import annotations

import math

from optuna.trial import TrialState

from bcd.sweep import parse_sweep
from bcd.sweep.study import ask, new_study, past_trial
from tests.helpers.api import tiny_sweep

SPACE = {
    "lr": {"type": "loguniform", "low": 0.00123456789, "high": 0.1},
    "kind": {"type": "choice", "values": [1, True, "x"]},
    "width": {"type": "integer", "low": 4, "high": 12, "step": 4},
    "ema": {"type": "uniform", "low": 0.1, "high": 0.95, "step": 0.2, "when": {"kind": ["x"]}},
}


def _sweep(**changes):
    return parse_sweep(tiny_sweep(space=SPACE, **changes))


def test_what_is_asked_lies_in_the_space_and_conditions_hold():
    for search in ({"type": "random"}, {"type": "tpe", "startup": 5}):
        sweep = _sweep(search=search)
        study = new_study(sweep)
        for _ in range(40):
            trial, params = ask(study, sweep.space)
            assert 0.00123456789 <= params["lr"] <= 0.1
            assert params["width"] in (4, 8, 12)
            assert ("ema" in params) == (params["kind"] == "x")
            assert params.get("ema", 0.1) in (0.1, 0.3, 0.5, 0.7, 0.9)
            study.tell(trial, -abs(math.log(params["lr"] / 0.01)))


def test_tpe_learns_also_from_trials_of_an_earlier_driver():
    sweep = _sweep(search={"type": "tpe", "startup": 5})
    first = new_study(sweep)
    told = []
    for _ in range(30):
        trial, params = ask(first, sweep.space)
        value = -abs(math.log(params["lr"] / 0.01))
        first.tell(trial, value)
        told.append((params, value))
    second = new_study(sweep, known=len(told))
    for params, value in told:
        second.add_trial(past_trial(sweep.space, params, values=[value]))
    drawn = []
    for _ in range(20):
        trial, params = ask(second, sweep.space)
        drawn.append(-abs(math.log(params["lr"] / 0.01)))
        second.tell(trial, drawn[-1])
    at_random = [value for _, value in told[:5]]
    assert sum(drawn) / len(drawn) > sum(at_random) / len(at_random)
    assert len({str(one) for one in drawn}) > 10  # not the same numbers again


def test_a_running_trial_of_an_earlier_driver_can_be_told():
    sweep = _sweep()
    study = new_study(sweep, known=1)
    study.add_trial(past_trial(sweep.space, {"lr": 0.01, "kind": 1, "width": 4}, state=TrialState.RUNNING))
    study.tell(0, 3.0)
    assert study.best_trial.params["lr"] == 0.01
    study.add_trial(past_trial(sweep.space, {"lr": 0.02, "kind": True, "width": 8}, state=TrialState.FAIL))


def test_a_past_trial_with_true_is_not_taken_for_one_with_1():
    space = _sweep().space
    assert [past_trial(space, {"kind": word}, values=[1.0]).params["kind"] for word in (1, True, "x")] == [
        "0",
        "1",
        "2",
    ]


def test_random_search_draws_other_numbers_after_a_restart():
    sweep = _sweep(search={"type": "random", "seed": 3})
    (_, first), (_, again), (_, later) = (ask(new_study(sweep, known=n), sweep.space) for n in (0, 0, 5))
    assert first == again
    assert first != later
