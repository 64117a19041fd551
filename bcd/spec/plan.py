"""Whether teacher, student and methods fit together, decided from their descriptions before anything runs.

Descriptions are plain values: what `DetectorSpec.model_dump` gives, or `arguments` in a detector's file. Everything
that a method asks of a pair stands here, so that nothing is refused in the middle of a run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from bcd.spec.base import SpecError
from bcd.spec.detectors import DETECTORS as FAMILIES
from bcd.spec.detectors import Family
from bcd.spec.job import JobSpec
from bcd.spec.methods import (
    BckdMethod,
    CrossKdMethod,
    FgdMethod,
    FineGrainedMethod,
    FitNetMethod,
    GiMethod,
    LdMethod,
    MethodSpec,
    PkdMethod,
    SigmoidKdMethod,
    SoftmaxKdMethod,
)

Fault = tuple[str, str]
Arguments = Mapping[str, Any]

# A student site whose prior no teacher prior overlaps by this has nobody to ask. Ours: no paper matches unlike grids.
MIN_OVERLAP = 0.3
_DEFAULT_STRIDES = (8, 16, 32, 64, 128)
# No file of ours has a larger header.
_MOST_HEADER = 100_000_000


@dataclass(frozen=True)
class Pair:
    """Both descriptions, and how many classes they share (None: not known yet)."""

    student: Arguments
    teacher: Arguments
    classes: int | None


def plan_pair(
    student: Arguments, teacher: Arguments, methods: Sequence[MethodSpec], *, classes: int | None = None
) -> list[Fault]:
    """What keeps these methods from distilling this teacher into this student.

    Args:
        student, teacher: arguments of the detectors; a missing key has its default.
        classes: how many classes both know.

    Returns:
        (JSON pointer into the spec, message) for each fault; empty when the job can run.
    """
    for name, one in (("student", student), ("teacher", teacher)):
        if _family(one) is None:
            known = ", ".join(FAMILIES)
            return [(f"/{name}", f"unknown detector {one.get('detector')!r}; known: {known}")]
    pair, faults = Pair(student, teacher, classes), []
    for number, method in enumerate(methods):
        for check in CHECKS[type(method)]:
            for key, message in check(pair, method):
                faults.append((f"/methods/{number}{key}", f"{method.type}: {message}"))
    return faults


def check_pair(spec: JobSpec, teacher: Arguments, *, classes: int | None = None) -> None:
    """`plan_pair` for a whole spec. Raises `SpecError`."""
    if faults := plan_pair(spec.student.model_dump(mode="json"), teacher, spec.methods, classes=classes):
        raise SpecError(faults)


def teacher_arguments(path: str | Path) -> Arguments | None:
    """The arguments in the header of a detector file written by bcd (or of a folder that holds `student.safetensors`).

    None where there is none to read: a run says what is wrong with such a file.
    """
    path = Path(path)
    path = path / "student.safetensors" if path.is_dir() else path
    try:
        if not path.is_file():  # a named pipe would be waited for
            return None
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > _MOST_HEADER:
                return None
            header = json.loads(file.read(size))
        arguments = json.loads(header["__metadata__"]["detector"])["arguments"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return arguments if isinstance(arguments, dict) else None


# --- what methods ask -----------------------------------------------------------------------------------------

Found = list[tuple[str, str]]


def _sites_meet(pair: Pair, method: Any) -> Found:
    """Some student site finds a teacher site to ask."""
    ours, theirs = _strides(pair.student), _strides(pair.teacher)
    if ours == theirs and any(len(_priors(one, ours[0])) == 1 for one in (pair.student, pair.teacher)):
        return []  # each location asks its own
    for own in (size for stride in ours for size in _priors(pair.student, stride)):
        for other in (size for stride in theirs for size in _priors(pair.teacher, stride)):
            if _overlap(own, other) >= MIN_OVERLAP:
                return []
    return [
        (
            "",
            f"no prior box of the student (strides {_list(ours)}) overlaps one of the teacher's "
            f"(strides {_list(theirs)}) by an IoU of {MIN_OVERLAP}: they have no site in common. "
            "Change student.strides or student.prior_scale, or choose another teacher",
        )
    ]


def _two_classes(pair: Pair, method: Any) -> Found:
    if pair.classes == 1:
        return [("", "a softmax over one class is always 1, so nothing would be distilled; use bckd or sigmoid_kd")]
    return []


def _levels_meet(pair: Pair, method: Any) -> Found:
    ours, theirs = _strides(pair.student), _strides(pair.teacher)
    levels = getattr(method, "levels", None)
    if set(ours[:levels] if levels else ours) & set(theirs):
        return []
    return [
        (
            "",
            f"it compares pyramid maps of equal stride; the student's strides are {_list(ours)}, the teacher's "
            f"{_list(theirs)}. Choose student.strides among the teacher's",
        )
    ]


def _distributions(pair: Pair, method: Any) -> Found:
    for name, one in (("student", pair.student), ("teacher", pair.teacher)):
        family = FAMILIES[_detector(one)]
        if not family.distributions:
            return [
                (
                    "",
                    f"it needs box distributions from both heads, and the {name} is {family.name}, which predicts "
                    "plain boxes; use bckd, whose localisation term needs boxes only",
                )
            ]
    ours, theirs = (int(one.get("reg_max", 16)) for one in (pair.student, pair.teacher))
    if ours != theirs:
        return [
            (
                "",
                f"it compares distributions bin by bin, and the student's reg_max is {ours}, the teacher's {theirs}; "
                f"set student.reg_max: {theirs}",
            )
        ]
    return _levels_meet(pair, method) or _places_meet(pair)


def _places_meet(pair: Pair) -> Found:
    """Some student site asks a teacher site of its own stride: only their distances mean the same."""
    ours, theirs = _strides(pair.student), _strides(pair.teacher)
    if ours == theirs:
        return []
    for stride in set(ours) & set(theirs):
        (own,) = _priors(pair.student, stride)
        overlap = {other: _overlap(own, _priors(pair.teacher, other)[0]) for other in theirs}
        if overlap[stride] >= max(MIN_OVERLAP, *overlap.values()):
            return []
    side = _priors(pair.teacher, 1)[0][0]
    return [
        (
            "",
            "it compares sites of one stride, and the priors of the student overlap the teacher's of another stride "
            f"more, or none enough; set student.prior_scale: {side:g}, as the teacher has it",
        )
    ]


def _head_goes_on(pair: Pair, method: Any) -> Found:
    assert isinstance(method, CrossKdMethod)
    family, faults = FAMILIES[_detector(pair.teacher)], []
    blocks = int(pair.teacher.get("stacked_convs", 4))
    if method.depth is not None and method.depth > blocks:
        faults.append(("/depth", f"the teacher's towers have {blocks} blocks, fewer than depth {method.depth}"))
    if method.loc == "kl" and not family.distributions:
        faults.append(("/loc", f"kl compares box distributions, and the teacher is {family.name}; use giou"))
    if method.ctr_weight and not family.centerness:
        faults.append(("/ctr_weight", f"the teacher is {family.name}, whose head has no centerness; leave it out"))
    return faults + _levels_meet(pair, method)


Check = Callable[[Pair, Any], Found]

CHECKS: dict[type, tuple[Check, ...]] = {
    BckdMethod: (_sites_meet,),
    SoftmaxKdMethod: (_two_classes, _sites_meet),
    SigmoidKdMethod: (_sites_meet,),
    LdMethod: (_distributions,),
    CrossKdMethod: (_head_goes_on,),
    PkdMethod: (_levels_meet,),
    FgdMethod: (_levels_meet,),
    FitNetMethod: (_levels_meet,),
    FineGrainedMethod: (_levels_meet,),
    GiMethod: (_levels_meet, _sites_meet),
}

# What each method reads of both models' outputs: what the classes in `bcd.methods` say, for whoever has no torch.
NEEDS: dict[type, frozenset[str]] = {
    BckdMethod: frozenset({"scores", "boxes"}),
    SoftmaxKdMethod: frozenset({"scores"}),
    SigmoidKdMethod: frozenset({"scores"}),
    LdMethod: frozenset({"distributions"}),
    CrossKdMethod: frozenset({"scores", "boxes", "head"}),
    PkdMethod: frozenset({"features"}),
    FgdMethod: frozenset({"features"}),
    FitNetMethod: frozenset({"features"}),
    FineGrainedMethod: frozenset({"features"}),
    GiMethod: frozenset({"scores", "boxes", "features"}),
}


def method_needs(method: MethodSpec) -> frozenset[str]:
    """What a method reads of teacher and student."""
    return NEEDS[type(method)]


def _detector(one: Arguments) -> str:
    return str(one.get("detector", "gfl"))


def _family(one: Arguments) -> Family | None:
    return FAMILIES.get(_detector(one))


def _strides(one: Arguments) -> tuple[int, ...]:
    return tuple(one.get("strides", _DEFAULT_STRIDES))


def _priors(one: Arguments, stride: int) -> list[tuple[float, float]]:
    """(width, height) in pixels of the priors of a location."""
    side = (one.get("prior_scale") or FAMILIES[_detector(one)].prior_scale) * stride
    if _detector(one) != "retinanet":
        return [(side, side)]
    octave = one.get("anchors_per_octave") or 3
    ratios = one.get("anchor_ratios") or (0.5, 1.0, 2.0)
    sides = [side * 2 ** (n / octave) for n in range(octave)]
    return [(s / sqrt(ratio), s * sqrt(ratio)) for ratio in ratios for s in sides]


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """IoU of two boxes (width, height) with one centre."""
    shared = min(one[0], other[0]) * min(one[1], other[1])
    return shared / (one[0] * one[1] + other[0] * other[1] - shared)


def _list(strides: Sequence[int]) -> str:
    return ", ".join(str(stride) for stride in strides)
