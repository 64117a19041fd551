"""Distillation methods, one file each. A new one: fields in `bcd.spec.methods`, a file, a line in `METHODS`."""

from __future__ import annotations

from bcd.methods.base import Method, Step, trace_depths
from bcd.methods.bckd import Bckd
from bcd.models.detector import Detector
from bcd.spec import BckdMethod, MethodSpec

METHODS: dict[type, type[Method]] = {BckdMethod: Bckd}


def build_method(spec: MethodSpec, student: Detector, teacher: Detector) -> Method:
    """The method that a spec describes, for a pair of models."""
    return METHODS[type(spec)](spec, student, teacher)


__all__ = ["METHODS", "Method", "Step", "build_method", "trace_depths"]
