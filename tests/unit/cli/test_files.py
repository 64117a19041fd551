"""Spec files as people give them: changes on the command line, and paths that hold for the worker too."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcd.spec import SpecError
from service.cli.files import apply_change, read_spec

RECIPES = Path(__file__).parents[3] / "recipes"


def test_a_change_reaches_into_blocks_and_lists():
    values = {"schedule": {"steps": 10}, "methods": [{"type": "bckd"}]}
    for change in ("schedule.steps=300", "methods.0.loc_weight=2", "data.augment.flip=0.5", "name=a=b"):
        apply_change(values, change)
    assert values == {
        "schedule": {"steps": 300},
        "methods": [{"type": "bckd", "loc_weight": 2}],
        "data": {"augment": {"flip": 0.5}},
        "name": "a=b",
    }


def test_a_change_can_take_a_value_away():
    values = {"teacher": {"job": "x"}}
    apply_change(values, "teacher=null")
    assert values == {"teacher": None}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("schedule.steps", "not KEY.PATH=VALUE"),
        ("=3", "not KEY.PATH=VALUE"),
        ("methods.5.weight=1", "is a list of 1"),
        ("methods.bckd.weight=1", "use methods.0"),
        ("name.first=x", "plain value"),
        ("name=[", "not valid YAML"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(change, told):
    with pytest.raises(SpecError, match=told):
        apply_change({"name": "x", "methods": [{}]}, change)


def test_a_misspelt_key_is_refused_by_the_spec_with_its_pointer():
    with pytest.raises(SpecError) as caught:
        read_spec(RECIPES / "demo-baseline.yaml", ["schedule.stepz=3"])
    assert [pointer for pointer, _ in caught.value.errors] == ["/schedule/stepz"]


def test_paths_are_taken_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = read_spec(
        RECIPES / "bccd-smoke.yaml", ["data.root=cells", "teacher.path=t.safetensors", "methods=[{type: bckd}]"]
    )
    assert spec.data.root == str(tmp_path / "cells")
    assert spec.teacher.path == str(tmp_path / "t.safetensors")


def test_the_seed_on_the_command_line_wins():
    assert read_spec(RECIPES / "demo-baseline.yaml", ["seed=4"], seed=7).seed == 7


@pytest.mark.parametrize(
    ("text", "told"), [("- 1", "holds no spec"), ("a: [", "not valid YAML"), ("", "holds no spec")]
)
def test_a_file_that_holds_no_spec_is_told(tmp_path, text, told):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SpecError, match=told):
        read_spec(tmp_path / "s.yaml")


def test_another_teacher_file_keeps_the_settings_of_the_files_teacher(tmp_path):
    changes = ["teacher.classes={a: b}", "teacher.preflight=warn"]
    spec = read_spec(RECIPES / "demo-bckd.yaml", [*changes, "teacher.job=job_x"], teacher=tmp_path / "t.safetensors")
    assert spec.teacher is not None
    assert (spec.teacher.job, spec.teacher.path) == (None, str(tmp_path / "t.safetensors"))
    assert (spec.teacher.classes, spec.teacher.preflight) == ({"a": "b"}, "warn")


def test_on_and_off_are_words_in_files_and_changes(tmp_path):
    text = (RECIPES / "demo-bckd.yaml").read_text() + "\nteacher: {path: t.safetensors, cache: off}\n"
    (tmp_path / "s.yaml").write_text(text)
    spec = read_spec(tmp_path / "s.yaml", ["teacher.preflight=off", "student.norm_eval=false"])
    assert spec.teacher is not None
    assert (spec.teacher.cache, spec.teacher.preflight, spec.student.norm_eval) == ("off", "off", False)


def test_a_folder_in_place_of_a_spec_file_is_told(tmp_path):
    with pytest.raises(SpecError, match=r"cannot read .*: Is a directory$"):
        read_spec(tmp_path)


def test_every_recipe_is_a_valid_spec():
    recipes = sorted(RECIPES.glob("*.yaml"))
    assert len(recipes) >= 4
    for recipe in recipes:
        read_spec(recipe)


def test_the_distilled_demo_differs_from_its_baseline_by_teacher_and_methods_alone():
    baseline, distilled = (read_spec(RECIPES / f"demo-{name}.yaml") for name in ("baseline", "bckd"))
    without = ("name", "teacher", "methods")
    assert baseline.digest(without=without) == distilled.digest(without=without)
    assert distilled.methods
    assert not baseline.methods
