"""What a pair of detectors lacks for a method is said before anything runs, by pointer and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from bcd.api import JobError, run_job
from bcd.methods import METHODS, PairError, build_methods
from bcd.models.files import save_detector
from bcd.spec import MethodSpec, SpecError, check_pair, plan_pair, teacher_arguments
from bcd.spec.plan import CHECKS, FAMILIES, NEEDS
from tests.helpers.pairs import METHOD_TYPES, SAME_CLASSES, detector, frozen, method, step_of
from tests.helpers.runs import MemorySink, tiny_spec

GFL: dict[str, Any] = {"detector": "gfl"}
ATSS, FCOS, RETINANET = ({"detector": name} for name in ("atss", "fcos", "retinanet"))


def spec_of(kind: str, **settings: Any) -> MethodSpec:
    found: MethodSpec = TypeAdapter(MethodSpec).validate_python({"type": kind, **settings})
    return found


def test_every_method_of_a_spec_is_built_and_planned():
    known = {type(spec_of(kind)) for kind in METHOD_TYPES}
    assert known == set(METHODS) == set(CHECKS)
    assert {kind: made.needs for kind, made in METHODS.items()} == NEEDS


@pytest.mark.parametrize("kind", METHOD_TYPES)
def test_published_detectors_of_any_family_fit_every_method_but_ld(kind: str):
    for ours in FAMILIES:
        for theirs in FAMILIES:
            faults = plan_pair({"detector": ours}, {"detector": theirs}, [spec_of(kind)])
            assert bool(faults) == (kind == "ld" and (ours, theirs) != ("gfl", "gfl"))


@pytest.mark.parametrize(
    ("ours", "theirs", "kind", "settings", "pointer", "message"),
    [
        (GFL, ATSS, "ld", {}, "", "the teacher is ATSS, which predicts plain boxes; use bckd"),
        (FCOS, GFL, "ld", {}, "", "the student is FCOS"),
        (GFL, {**GFL, "reg_max": 8}, "ld", {}, "", "student's reg_max is 16, the teacher's 8; set student.reg_max: 8"),
        ({**GFL, "strides": [64, 128]}, {**GFL, "strides": [8, 16]}, "ld", {}, "", "strides are 64, 128"),
        ({**GFL, "strides": [64]}, {**GFL, "strides": [8, 16]}, "bckd", {}, "", "no site in common"),
        (
            {**RETINANET, "strides": [8], "prior_scale": 1},
            {**RETINANET, "strides": [8]},
            "bckd",
            {},
            "",
            "no site in common",
        ),
        ({**GFL, "strides": [8, 16], "prior_scale": 4}, GFL, "ld", {}, "", "set student.prior_scale: 8"),
        ({**GFL, "strides": [64]}, {**GFL, "strides": [8, 16]}, "gi", {}, "", "student.strides among the teacher's"),
        ({**GFL, "strides": [4]}, {**GFL, "strides": [8, 16]}, "pkd", {}, "", "pyramid maps of equal stride"),
        (GFL, {**GFL, "strides": [32, 64]}, "pkd", {"levels": 2}, "", "pyramid maps of equal stride"),
        (
            GFL,
            {**GFL, "stacked_convs": 2},
            "crosskd",
            {"depth": 3},
            "/depth",
            "towers have 2 blocks, fewer than depth 3",
        ),
        (GFL, FCOS, "crosskd", {"loc": "kl"}, "/loc", "the teacher is FCOS; use giou"),
        (ATSS, RETINANET, "crosskd", {"ctr_weight": 1}, "/ctr_weight", "whose head has no centerness"),
    ],
)
def test_what_a_pair_lacks_is_named(
    ours: dict[str, Any], theirs: dict[str, Any], kind: str, settings: dict[str, Any], pointer: str, message: str
):
    faults = plan_pair(ours, theirs, [spec_of("bckd"), spec_of(kind, **settings)])
    mine = [(at, text) for at, text in faults if at.startswith("/methods/1")]
    assert mine[0][0] == f"/methods/1{pointer}"
    assert mine[0][1].startswith(f"{kind}: ")
    assert message in mine[0][1]


def test_an_unknown_family_is_named_with_the_known_ones():
    assert plan_pair(GFL, {"detector": "yolo"}, [spec_of("bckd")])[0] == (
        "/teacher",
        "unknown detector 'yolo'; known: gfl, atss, fcos, retinanet",
    )


def test_a_softmax_over_one_class_is_refused():
    assert not plan_pair(GFL, GFL, [spec_of("softmax_kd")], classes=2)
    faults = plan_pair(GFL, GFL, [spec_of("softmax_kd"), spec_of("bckd")], classes=1)
    assert [at for at, _ in faults] == ["/methods/0"]
    assert "always 1" in faults[0][1]


@pytest.mark.parametrize("strides", [(8, 16), (16, 32), (32, 64), (64,)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_plan_refuses_unlike_grids_exactly_when_no_site_meets(strides: tuple[int, ...], family: str):
    student = detector("gfl", strides=strides, prior_scale=2.0)
    teacher = frozen(detector(family, 1, strides=(8, 16), prior_scale=3.0))
    refused = bool(plan_pair(student.info.arguments, teacher.info.arguments, [spec_of("bckd")]))
    step = step_of(student, teacher, [], x=torch.zeros(2, 3, 256, 256))
    assert refused == (step.matched.weight_BA.sum().item() == 0)


def test_building_methods_asks_the_plan_first():
    student, teacher = detector("gfl"), frozen(detector("atss", 1))
    with pytest.raises(PairError, match=r"/methods/1: ld: it needs box distributions"):
        build_methods([spec_of("bckd"), spec_of("ld")], student, teacher, SAME_CLASSES)
    built = build_methods([spec_of("pkd"), spec_of("bckd"), spec_of("pkd")], student, teacher, SAME_CLASSES)
    assert [one.spec.type for one in built] == ["pkd", "bckd", "pkd"]


def test_the_description_in_a_teachers_file_is_read_without_its_weights(tmp_path: Path):
    teacher = detector("atss")
    path = save_detector(teacher, tmp_path / "student.safetensors")
    assert teacher_arguments(path) == teacher_arguments(tmp_path) == teacher.info.arguments
    spec = tiny_spec(**{"teacher": {"path": str(path)}, "methods": [{"type": "ld"}]})
    with pytest.raises(SpecError) as caught:
        check_pair(spec, teacher_arguments(path))
    assert caught.value.errors[0][0] == "/methods/0"
    for content in (b"", b"x", b"\x02\x00\x00\x00\x00\x00\x00\x00{}", b"\xff" * 16, b"\x00" * 100):
        (tmp_path / "other").write_bytes(content)
        assert teacher_arguments(tmp_path / "other") is None
    assert teacher_arguments(tmp_path / "nowhere") is None


def test_every_field_of_every_method_says_what_it_is():
    for kind in METHOD_TYPES:
        for name, field in type(spec_of(kind)).model_fields.items():
            assert name == "type" or (field.description and len(field.description) > 20), (kind, name)


def test_published_defaults():
    """docs and METHODS.md name these numbers."""
    found = {kind: spec_of(kind).model_dump() for kind in METHOD_TYPES}
    assert (found["bckd"]["cls_weight"], found["bckd"]["loc_weight"]) == (1, 4)
    assert (found["softmax_kd"]["cls_weight"], method("softmax_kd", detector("gfl"), detector("gfl")).temperature) == (
        10,
        2,
    )
    assert [found["ld"][key] for key in ("main_weight", "vlr_weight", "temperature", "vlr_share")] == [
        0.25,
        0.25,
        10,
        0.25,
    ]
    assert found["pkd"]["feature_weight"] == 6
    assert [found["fgd"][f"{key}_weight"] for key in ("foreground", "background", "attention", "relation")] == [
        1e-3, 5e-4, 5e-4, 5e-6,
    ]  # fmt: skip
    assert [found[kind]["feature_weight"] for kind in ("fitnet", "fine_grained", "gi")] == [2, 2, 2]
    assert [found["gi"][key] for key in ("instances", "nms_iou")] == [10, 0.3]
    for family, expected in {
        "gfl": (1, 4, 0, "kl", 3), "retinanet": (1, 1, 0, "giou", 3), "atss": (1, 1, 1, "giou", 3),
        "fcos": (0.4, 0.75, 0, "iou", 2),
    }.items():  # fmt: skip
        one = method("crosskd", detector("gfl", stacked_convs=4), detector(family, stacked_convs=4))
        assert (one.cls_weight, one.loc_weight, one.ctr_weight, one.box_loss, one.trace[1]) == expected


def test_a_run_refuses_such_a_pair_before_its_first_step(tmp_path: Path):
    names = tuple("0123456789")
    teacher = save_detector(detector("fcos", class_names=names), tmp_path / "teacher.safetensors")
    spec = tiny_spec(**{"teacher": {"path": str(teacher), "preflight": "off"}, "methods": [{"type": "ld"}]})
    sink = MemorySink()
    with pytest.raises(JobError, match=r"/methods/0: ld: .* the teacher is FCOS") as caught:
        run_job(spec, workdir=tmp_path / "run", sink=sink)
    assert caught.value.code == "bad-pair"
    assert not sink.values
