"""The spec refuses what cannot be meant, and says where and what to change."""

from __future__ import annotations

import pytest

from bcd.spec import JobSpec, SpecError, load_spec, parse_spec
from tests.helpers.runs import TINY

GOOD = {"data": {"type": "digits-scenes-v1"}, "student": {}}


def faults(value) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(value)
    return dict(caught.value.errors)


def test_a_short_spec_is_filled_with_defaults_and_survives_a_round_trip():
    spec = parse_spec(GOOD)
    assert spec.schedule.optimizer.type == "adamw"
    assert parse_spec(spec.canonical()) == spec


@pytest.mark.parametrize(
    ("path", "value", "pointer", "says"),
    [
        ("schedule.stepz", 5, "/schedule/stepz", "unknown key"),
        ("schedule.steps", 0, "/schedule/steps", "greater than or equal to 1"),
        ("schedule.optimizer", {"type": "adam"}, "/schedule/optimizer", "unknown type 'adam'; known: 'adamw', 'sgd'"),
        ("schedule.optimizer", {"type": "sgd", "lr": -1}, "/schedule/optimizer/lr", "greater than 0"),
        ("schedule.optimizer", {"lr": 0.1}, "/schedule/optimizer", "`type` is missing"),
        ("methods", [{"type": "kd"}], "/methods/0", "unknown type 'kd'; known: 'bckd'"),
        ("methods", [{"type": "bckd", "loc_weight": -4}], "/methods/0/loc_weight", "greater than or equal to 0"),
        ("methods", [{"type": "bckd", "betta": 1}], "/methods/0/betta", "unknown key"),
        ("data", {"type": "voc", "root": "x", "classes": []}, "/data/classes", "at least 1"),
        ("data", {"type": "voc", "root": "x", "classes": ["a", "a"]}, "/data", "distinct"),
        ("data", {"type": "coco", "root": "x"}, "/data/train_annotations", "required"),
        ("student.strides", [8, 32], "/student", "double"),
        ("student.pretrained", True, "/student", "no pretrained weights for the tiny"),
        ("student", {"backbone": "resnet18", "strides": [8, 16]}, "/student", "begin with 8, 16, 32, not [8, 16]"),
        (
            "data", {"type": "voc", "root": "x", "classes": ["a"], "image_size": [1333, 800]},
            "/data", "write [800, 1333]",
        ),
        ("seed", -1, "/seed", "greater than or equal to 0"),
        ("seed", "x", "/seed", "not 'x'"),
        ("schedule.optimizer.lr", float("nan"), "/schedule/optimizer/lr", "finite"),
        ("resources", {"gpus": 1.5}, "/resources", "a whole number or a share of one GPU such as 0.5, not 1.5"),
        ("resources", {"gpus": 0.001}, "/resources", "0.01 at least"),
        ("resources", {"gpus": 0.5, "processes": 2}, "/resources", "serves one process"),
        ("resources", {"gpus": "many"}, "/resources/gpus", "valid number"),
        ("resources", {"gpus": 65}, "/resources/gpus", "less than or equal to 64"),
        ("resources", {"memory": 0}, "/resources/memory", "greater than 0"),
    ],
)  # fmt: skip
def test_each_fault_has_a_pointer_and_says_what_is_wrong(path, value, pointer, says):
    import copy

    spec = copy.deepcopy(TINY)
    *parents, leaf = path.split(".")
    place = spec
    for parent in parents:
        place = place[parent]
    place[leaf] = value
    found = faults(spec)
    assert pointer in found, found
    assert says in found[pointer]


def test_methods_and_teacher_need_each_other():
    assert "need a teacher" in faults({**GOOD, "methods": [{"type": "bckd"}]})[""]
    assert "would do nothing" in faults({**GOOD, "teacher": {"path": "x"}})[""]
    assert "exactly one" in faults({**GOOD, "teacher": {}, "methods": [{"type": "bckd"}]})["/teacher"]


def test_things_that_are_no_spec_at_all_are_refused():
    for value in (None, [], "x", 5, {}):
        assert faults(value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(SpecError, match="no such spec file"):
        load_spec(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(SpecError, match="not valid YAML"):
        load_spec(tmp_path / "bad.yaml")
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="cannot read"):
        load_spec(tmp_path / "bin.yaml")


def test_the_digest_leaves_out_what_it_is_told_to():
    a, b = parse_spec({**GOOD, "seed": 1, "name": "a"}), parse_spec({**GOOD, "seed": 2, "name": "b"})
    assert a.digest() != b.digest()
    assert a.digest(without=("seed", "name")) == b.digest(without=("seed", "name"))


def test_specs_of_jobs_that_are_stored_keep_their_digest():
    """A field that is new must not change what an old spec hashes to: requests are told apart by it."""
    frozen = {
        "8d277f2645b12095930e48e721c23e5d462e9532aef83b333e0e79950bb098b4": {},
        "26ead01db7fc3b3d5c5357b109492f50470c1d074c4104e89e0ac6c75570b859": {"gpus": 2, "cpus": 4},
    }
    for digest, resources in frozen.items():
        assert parse_spec({**GOOD, "resources": resources}).digest() == digest


def test_a_share_of_a_gpu_serves_one_process_and_whole_ones_are_whole_numbers():
    shared, whole = (parse_spec({**GOOD, "resources": {"gpus": gpus}}).resources for gpus in (0.5, 2.0))
    assert (shared.gpus, shared.world) == (0.5, 1)
    assert (repr(whole.gpus), whole.world) == ("2", 2)
    assert parse_spec({**GOOD, "resources": {"memory": 1.5}}).canonical()["resources"]["memory"] == 1.5


def walk(schema, seen, path="#"):
    for name, prop in schema.get("properties", {}).items():
        if not (prop.get("description") or "const" in prop):
            seen.append(f"{path}/{name}")


def test_every_field_is_described():
    schema, bare = JobSpec.model_json_schema(), []
    walk(schema, bare)
    for name, part in schema["$defs"].items():
        walk(part, bare, name)
    assert bare == []
