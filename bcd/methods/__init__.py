"""Distillation methods, one file each. A new one: fields in `bcd.spec.methods`, a file, a line in `METHODS`, and what
it asks of a pair of detectors in `bcd.spec.plan`."""

from __future__ import annotations

from collections.abc import Sequence

from bcd.methods.base import Method, Step, trace_depths
from bcd.methods.bckd import Bckd
from bcd.methods.crosskd import CrossKd
from bcd.methods.fgd import Fgd
from bcd.methods.fine_grained import FineGrained
from bcd.methods.fitnet import FitNet
from bcd.methods.gi import Gi
from bcd.methods.ld import Ld
from bcd.methods.match import ClassMap
from bcd.methods.pkd import Pkd
from bcd.methods.sigmoid_kd import SigmoidKd
from bcd.methods.softmax_kd import SoftmaxKd
from bcd.models.detector import Detector
from bcd.spec import (
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
    plan_pair,
)

METHODS: dict[type, type[Method]] = {
    BckdMethod: Bckd,
    SoftmaxKdMethod: SoftmaxKd,
    SigmoidKdMethod: SigmoidKd,
    LdMethod: Ld,
    CrossKdMethod: CrossKd,
    PkdMethod: Pkd,
    FgdMethod: Fgd,
    FitNetMethod: FitNet,
    FineGrainedMethod: FineGrained,
    GiMethod: Gi,
}


class PairError(ValueError):
    """Methods that cannot distil this teacher into this student, with a reason for each."""


def build_method(spec: MethodSpec, student: Detector, teacher: Detector) -> Method:
    """The method that a spec describes, for a pair of models that `bcd.spec.plan_pair` has nothing against."""
    return METHODS[type(spec)](spec, student, teacher)


def build_methods(specs: Sequence[MethodSpec], student: Detector, teacher: Detector, classes: ClassMap) -> list[Method]:
    """The methods that a spec lists, in its order. Raises `PairError` where the pair lacks what one of them needs."""
    shared = student.num_classes if classes.student is None else len(classes.student)
    faults = plan_pair(student.info.arguments, teacher.info.arguments, specs, classes=shared)
    if faults:
        raise PairError("; ".join(f"{pointer}: {message}" for pointer, message in faults))
    return [build_method(spec, student, teacher) for spec in specs]


__all__ = ["METHODS", "Method", "PairError", "Step", "build_method", "build_methods", "trace_depths"]
