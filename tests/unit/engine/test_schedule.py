"""Schedules as published: what a spec can name, and the learning rate at each step that comes of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bcd
from bcd.engine.optim import build_optimizer, learning_rate
from bcd.spec import SpecError, parse_spec
from bcd.spec.schedule import ScheduleSpec
from tests.helpers.runs import TINY, tiny_spec

COCO_IMAGES = 117_266  # train2017 without images that have no box, as published schedules count


def schedule(**values) -> ScheduleSpec:
    return parse_spec({**TINY, "schedule": values, "evaluation": {"every": 2}}).schedule


def test_the_1x_preset_is_the_published_schedule_of_coco():
    given = schedule(preset="1x")
    plan = given.resolve(COCO_IMAGES)
    assert plan.steps == 87_960  # 12 epochs of 7,330 steps
    assert plan.milestones == (58_640, 80_630)
    assert (given.batch_size, given.optimizer.type, given.optimizer.lr, given.clip_norm) == (16, "sgd", 0.01, None)
    rate = {step: learning_rate(given, plan, step) for step in (0, 250, 499, 500, 58_639, 58_640, 80_630, 87_959)}
    assert rate[0] == pytest.approx(1e-5)
    assert rate[250] == pytest.approx(0.01 * (0.001 + 0.999 / 2))
    assert rate[499] < rate[500] == rate[58_639] == 0.01
    assert rate[58_640] == pytest.approx(1e-3)
    assert rate[80_630] == rate[87_959] == pytest.approx(1e-4)


def test_what_is_given_beside_a_preset_counts_and_the_canonical_spec_says_all():
    given = schedule(preset="2x", batch_size=8, optimizer={"type": "sgd", "lr": 0.005})
    assert (given.epochs, given.batch_size, given.optimizer.lr, given.warmup_start) == (24, 8, 0.005, 0.001)
    assert given.decay.epochs == (16, 22)
    whole = tiny_spec(schedule={"preset": "1x"})
    assert parse_spec(whole.canonical()) == whole
    assert whole.canonical()["schedule"]["preset"] is None
    short = schedule(preset="1x", steps=120).resolve(5)
    assert short.steps == 120
    assert short.milestones == pytest.approx((80, 110))


def test_without_a_start_warm_up_rises_from_its_first_fraction():
    given = schedule(steps=100, warmup_steps=4, optimizer={"type": "sgd", "lr": 1.0})
    plan = given.resolve(1)
    assert [learning_rate(given, plan, step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("decay", "expected"),
    [({"milestones": [0.5]}, (20,)), ({"epochs": [1]}, (10,)), ({"steps": [7, 9]}, (7, 9)), ({}, (80 / 3, 110 / 3))],
)
def test_milestones_in_three_units(decay, expected):
    plan = schedule(epochs=4, batch_size=10, decay={"type": "multistep", **decay}).resolve(95)
    assert plan.steps == 40
    assert plan.milestones == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"steps": 3, "epochs": 2}, "steps or epochs, not both"),
        ({"batch_size": 5, "accumulate": 2}, "accumulate (2) must divide batch_size (5)"),
        ({"epochs": 2, "decay": {"type": "multistep", "epochs": [3]}}, "decay.epochs names 3, after the end"),
        ({"decay": {"type": "multistep", "epochs": [3], "steps": [4]}}, "one of milestones, epochs and steps"),
        ({"warmup_steps": 0, "warmup_start": 0.1}, "would do nothing"),
        ({"preset": "3x"}, "'1x' or '2x'"),
    ],
)
def test_schedules_that_cannot_be_meant_are_refused(values, says):
    with pytest.raises(SpecError) as caught:
        schedule(**values)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"schedule.early_stop": {}}, "schedule.early_stop needs evaluations"),
        ({"schedule.keep": "best"}, "schedule.keep: best needs evaluations"),
        ({"resources.processes": 3}, "make it a multiple of 3"),
        ({"resources.gpus": 2, "resources.processes": 4}, "as many processes"),
    ],
)
def test_a_spec_whose_parts_do_not_fit_is_refused(values, says):
    with pytest.raises(SpecError) as caught:
        tiny_spec(**values)
    assert says in str(caught.value)


def test_the_number_of_steps_is_known_where_the_spec_says_it():
    assert tiny_spec().planned_steps() == 8
    epochs = {"schedule": {"epochs": 3, "batch_size": 4}}
    assert tiny_spec(**epochs).planned_steps() == 24
    assert tiny_spec(**epochs, **{"data.max_train_images": 5}).planned_steps() == 6
    voc = {"data": {"type": "voc", "root": "x", "classes": ["a"]}, "student": {}, "schedule": {"epochs": 3}}
    assert parse_spec(voc).planned_steps() is None


def groups_of(spec: dict, model: nn.Module, extra: nn.Module | None = None) -> dict[int, tuple[float, float]]:
    optimizer = build_optimizer([("", model), ("methods", extra or nn.Module())], schedule(optimizer=spec).optimizer)
    return {
        id(p): (group["lr_factor"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }


def test_parameter_groups_take_kinds_and_names_and_the_first_that_fits():
    model, extra = bcd.build_detector(**TINY["student"], num_classes=3), nn.ModuleList([nn.Conv2d(2, 2, 1)])
    wanted = [
        {"kind": "norm", "decay_factor": 0},
        {"kind": "bias", "lr_factor": 2, "decay_factor": 0},
        {"names": "backbone.*", "lr_factor": 0.1},
        {"names": "methods.0.weight", "lr_factor": 3},
    ]
    found = groups_of({"type": "sgd", "weight_decay": 0.5, "groups": wanted}, model, extra)
    named = dict(model.named_parameters())
    assert set(found) == {id(p) for p in [*named.values(), *extra.parameters()]}
    assert found[id(extra[0].weight)] == (3, 0.5)
    assert found[id(extra[0].bias)] == (2, 0)
    assert found[id(named["head.cls_tower.0.gn.bias"])] == (1, 0)
    assert found[id(named["head.cls.bias"])] == (2, 0)
    convs = [p for name, p in named.items() if name.startswith("backbone.") and p.ndim == 4]
    assert convs
    assert all(found[id(p)] == (0.1, 0.5) for p in convs)
    assert found[id(named["head.cls.weight"])] == (1, 0.5)


def test_adamw_decays_matrices_alone():
    model = bcd.build_detector(**TINY["student"], num_classes=3)
    found = groups_of({"type": "adamw", "weight_decay": 0.5}, model)
    assert all(found[id(p)] == (1, 0.5 if p.ndim >= 2 else 0) for p in model.parameters())


def test_a_group_that_fits_nothing_is_named():
    model = bcd.build_detector(**TINY["student"], num_classes=3)
    with pytest.raises(ValueError, match=r"groups\.0 fits no trainable parameter.*'backbon\.\*'"):
        groups_of({"type": "sgd", "groups": [{"names": "backbon.*"}]}, model)


def test_a_factor_of_zero_keeps_a_parameter_as_it_is(tmp_path):
    from bcd.engine.trainer import Trainer
    from tests.helpers.toys import Toy, part, task_of

    toy = Toy()
    before = toy.a.weight.detach().clone()
    spec = schedule(steps=3, optimizer={"type": "sgd", "lr": 0.1, "groups": [{"names": "a.*", "lr_factor": 0}]})
    trainer = Trainer(toy, task_of(toy), spec, device=torch.device("cpu"), digest="x", folder=tmp_path)
    trainer.fit([[part(n)] for n in range(3)], on_metrics=lambda *_: None, on_checkpoint=lambda *_: None)
    assert torch.equal(toy.a.weight, before)
    assert not torch.equal(toy.b.weight, Toy().b.weight)
