"""Tiny teachers and students of every family, and one training step of a pair, without data or trainer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

import bcd
from bcd.methods import Method, Step, build_method, trace_depths
from bcd.methods.match import ClassMap
from bcd.models.detector import Detector
from bcd.spec import MethodSpec
from bcd.types import Targets

FAMILIES = ("gfl", "atss", "fcos", "retinanet")
METHOD_TYPES = (
    "bckd", "softmax_kd", "sigmoid_kd", "ld", "crosskd", "pkd", "fgd", "fitnet", "fine_grained", "gi",
)  # fmt: skip
SMALL: dict[str, Any] = {
    "backbone": "tiny", "width": 8, "fpn_channels": 16, "stacked_convs": 2, "strides": (8, 16), "reg_max": 8,
    "prior_scale": 3.0, "class_names": ("a", "b", "c"),
}  # fmt: skip
SAME_CLASSES = ClassMap(None, None)


def detector(family: str, seed: int = 0, **changes: Any) -> Detector:
    torch.manual_seed(seed)
    model = bcd.build_detector(family, **{**SMALL, **changes})
    with torch.no_grad():
        # Fresh heads say nearly the same everywhere; these disagree.
        model.head.cls.weight.normal_(std=0.3)
        model.head.reg.weight.normal_(std=0.1)
    return model


def frozen(model: Detector) -> Detector:
    return copy.deepcopy(model).eval().requires_grad_(False)


def method(kind: str, student: Detector, teacher: Detector, **settings: Any) -> Method:
    spec = TypeAdapter(MethodSpec).validate_python({"type": kind, **settings})
    return build_method(spec, student, teacher)


def images(seed: int = 0, count: int = 2, size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def targets(boxes: Sequence[Sequence[Sequence[float]]] | None = None, size: tuple[int, int] = (64, 64)) -> Targets:
    """Padded ground truth: boxes of each image; labels count up from 0 modulo 3."""
    if boxes is None:
        boxes = [[[4, 4, 30, 30], [20, 24, 60, 50]], [[10, 10, 40, 44]]]
    most = max(len(some) for some in boxes)
    boxes_BG4, labels = torch.zeros(len(boxes), most, 4), torch.arange(most).repeat(len(boxes), 1) % 3
    valid = torch.zeros(len(boxes), most, dtype=torch.bool)
    for image, some in enumerate(boxes):
        for number, box in enumerate(some):
            boxes_BG4[image, number], valid[image, number] = torch.tensor(box, dtype=torch.float32), True
    return Targets(boxes_BG4, labels, valid, torch.tensor([size] * len(boxes)))


def step_of(
    student: Detector,
    teacher: Detector,
    methods: Sequence[Method],
    x: Tensor | None = None,
    truth: Targets | None = None,
    classes: ClassMap = SAME_CLASSES,
) -> Step:
    """One training step of a pair as methods see it; the student's outputs carry gradient."""
    x, truth = images() if x is None else x, targets() if truth is None else truth
    student_depths, teacher_depths = trace_depths(methods)
    ours = student(x, student_depths)
    with torch.no_grad():
        theirs = teacher(x, teacher_depths)
    assigned = student.assign(ours, truth)
    return Step.of(ours, theirs, assigned, truth, classes, lambda trace: teacher.continue_from(trace, theirs))
