"""Sweep specs: what is refused before the first trial, with a pointer; and what a space makes of a job spec."""

from __future__ import annotations

from typing import Any

import pytest

from bcd.spec import SpecError, parse_spec
from bcd.sweep import check, grid, grid_size, parse_sweep, trial_values
from bcd.sweep.spec import SweepSpec
from tests.helpers.api import TINY_SPEC, tiny_sweep

METHODS = {
    "type": "choice",
    "values": [[{"type": "bckd"}], [{"type": "bckd"}, {"type": "pkd"}]],
    "labels": ["bckd", "bckd+pkd"],
}
TAUGHT = {**TINY_SPEC, "teacher": {"path": "/t.safetensors"}, "methods": [{"type": "bckd"}]}
EVALUATED = {**TINY_SPEC, "evaluation": {"every": 1}}


def _sweep(**changes: Any) -> SweepSpec:
    return parse_sweep(tiny_sweep(**changes))


def _faults(**changes: Any) -> dict[str, str]:
    try:
        return dict(check(_sweep(**changes)))
    except SpecError as error:
        return dict(error.errors)


def test_a_sweep_that_can_be_used_has_no_faults():
    assert _faults() == {}
    assert (
        _faults(job=TAUGHT, space={"methods": METHODS, "methods.0.loc_weight": {"type": "choice", "values": [1]}}) == {}
    )
    assert _faults(job=EVALUATED, scheduler={"type": "asha", "grace": 1}) == {}


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"space": {}}, "/space", "at least 1"),
        ({"space": {"student.width": {"type": "choice", "values": []}}}, "/space/student.width/values", "at least 1"),
        ({"space": {"student.width": {"type": "integer", "low": 8, "high": 8}}}, "/space/student.width", "be below"),
        ({"space": {"a": {"type": "loguniform", "low": 0, "high": 1}}}, "/space/a/low", "greater than 0"),
        ({"space": {"a": {"type": "choice", "values": [1, 1]}}}, "/space/a", "twice"),
        ({"space": {"a": {"type": "choice", "values": [1, 2], "labels": ["x"]}}}, "/space/a", "as many labels"),
        ({"space": {"a": {"type": "uniform", "low": 0, "high": 1, "step": 2}}}, "/space/a", "larger than the range"),
        ({"space": {"student.widht": {"type": "choice", "values": [4]}}}, "/space/student.widht", "unknown key"),
        ({"space": {"student.x.y": {"type": "choice", "values": [4]}}}, "/space/student.x.y", "student has no 'x'"),
        ({"space": {"student.width.y": {"type": "choice", "values": [4]}}}, "/space/student.width.y", "plain value"),
        ({"space": {"methods.0.beta": {"type": "choice", "values": [1]}}}, "/space/methods.0.beta", "list of 0"),
        ({"space": {"student.width": {"type": "choice", "values": [4, 5]}}}, "/space/student.width", "multiple of 4"),
        ({"space": {"student.width": {"type": "choice", "values": ["big"]}}}, "/space/student.width", "integer"),
        ({"space": {"seed": {"type": "integer", "low": 0, "high": 9}}}, "/space/seed", "`promote` adds seeds"),
        ({"job": {**TINY_SPEC, "data": {"type": "nope"}}}, "/job/data", "unknown type"),
        ({"budget": {}}, "", "budget is missing"),
        ({"budget": {"trials": 0}}, "/budget/trials", "greater than or equal to 1"),
        ({"budget": {"hours": 0}}, "/budget/hours", "greater than 0"),
        ({"search": {"type": "grid"}}, "/space/schedule.optimizer.lr", "counted"),
        ({"scheduler": {"type": "asha", "grace": 1}}, "/job/evaluation/every", "during training"),
        ({"job": EVALUATED, "scheduler": {"type": "asha", "grace": 4}}, "/scheduler/grace", "none is stopped"),
        ({"objectives": [{"metric": "mAP"}]}, "/objectives/0/metric", "no evaluation yields"),
        ({"objectives": [{"metric": "AP/cat"}]}, "/objectives/0/metric", "has no class 'cat'"),
        ({"objectives": [{"metric": "AP"}, {"metric": "AP"}]}, "/objectives/1/metric", "already"),
        ({"objectives": [{"metric": "parameters"}]}, "/objectives/0/metric", "must be an accuracy"),
        ({"promote": {"top": 1, "seeds": 1}}, "/promote/seeds", "greater than or equal to 2"),
        ({"unknown": 1}, "/unknown", "unknown key"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_place(changes, pointer, words):
    faults = _faults(**changes)
    assert pointer in faults, faults
    assert words in faults[pointer]


def test_values_that_fit_alone_and_not_together_are_found():
    space = {
        "student.negative_iou": {"type": "choice", "values": [0.3, 0.6]},
        "student.positive_iou": {"type": "choice", "values": [0.5, 0.7]},
    }
    faults = _faults(job={**TINY_SPEC, "student": {**TINY_SPEC["student"], "detector": "retinanet"}}, space=space)
    # 0.6 alone is above the default 0.5: told at the value itself
    assert "must not be above" in faults["/space/student.negative_iou"]
    space["student.negative_iou"] = {"type": "choice", "values": [0.3, 0.45]}
    space["student.positive_iou"] = {"type": "choice", "values": [0.42, 0.7]}
    job = {**TINY_SPEC, "student": {**TINY_SPEC["student"], "detector": "retinanet", "negative_iou": 0.3}}
    faults = _faults(job=job, space=space)
    assert "student.positive_iou = 0.42" in faults["/space"]
    assert "student.negative_iou = 0.45" in faults["/space"]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"student.width": [4]}, None),
        ({"student.width": [5]}, "none of the values"),
        ({"student.depth": [4]}, "no parameter of this space"),
        ({"schedule.optimizer.lr": [0.1]}, "that is a choice"),
    ],
)
def test_conditions_name_choices_and_their_values(when, words):
    space = {**tiny_sweep()["space"], "schedule.ema": {"type": "choice", "values": [0.5], "when": when}}
    faults = _faults(space=space)
    assert (faults == {}) if words is None else (words in str(faults))


def test_parameters_that_wait_for_each_other_are_refused():
    space = {
        "student.width": {"type": "choice", "values": [4, 8], "when": {"schedule.ema": [0.5]}},
        "schedule.ema": {"type": "choice", "values": [0.5, 0.9], "when": {"student.width": [4]}},
    }
    assert "wait for each other" in _faults(space=space)["/space/student.width/when"]


def test_a_grid_is_every_combination_without_those_that_do_not_apply():
    sweep = _sweep(
        job=TAUGHT,
        search={"type": "grid"},
        space={
            "methods": METHODS,
            "methods.1.feature_weight": {"type": "choice", "values": [1, 6], "when": {"methods": ["bckd+pkd"]}},
            "student.width": {"type": "integer", "low": 4, "high": 12, "step": 4},
            "schedule.ema": {"type": "uniform", "low": 0.5, "high": 0.9, "step": 0.2},
        },
    )
    assert check(sweep) == []
    found = list(grid(sweep.space))
    assert len(found) == grid_size(sweep.space) == (1 + 2) * 3 * 3
    assert len({str(one) for one in found}) == len(found)
    assert {one["schedule.ema"] for one in found} == {0.5, 0.7, 0.9}
    plain = [one for one in found if one["methods"] == "bckd"]
    assert all("methods.1.feature_weight" not in one for one in plain)


def test_blocks_go_in_before_their_fields():
    sweep = _sweep(job=TAUGHT, space={
        "methods.1.feature_weight": {"type": "choice", "values": [3.0], "when": {"methods": ["bckd+pkd"]}},
        "methods": METHODS,
    })  # fmt: skip
    base = parse_spec(TAUGHT).canonical()
    made = trial_values(base, sweep.space, {"methods.1.feature_weight": 3.0, "methods": "bckd+pkd"})
    assert [one["type"] for one in made["methods"]] == ["bckd", "pkd"]
    assert made["methods"][1]["feature_weight"] == 3.0
    assert [one["type"] for one in base["methods"]] == ["bckd"]  # untouched


def test_true_and_one_are_different_values():
    choice = _sweep(space={"a": {"type": "choice", "values": [1, True, "x", None, [1]]}}).space["a"]
    assert [choice.value_of(word) for word in choice.words] == [1, True, "x", None, [1]]
    assert choice.words[4] == "[1]"
    with pytest.raises(ValueError, match="none of the values"):
        choice.value_of("y")


def test_the_digest_knows_defaults():
    assert _sweep().digest() == _sweep(concurrency=4, scheduler={"type": "none"}).digest()
    assert _sweep().digest() != _sweep(concurrency=5).digest()
