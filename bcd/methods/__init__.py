"""Distillation methods, one file each. Adding one: its fields in `bcd.spec`, its file here, its line in `METHODS`."""

from __future__ import annotations

from bcd.methods.base import Method
from bcd.methods.bckd import Bckd
from bcd.spec import BckdMethod, MethodSpec

METHODS: dict[type, type[Method]] = {BckdMethod: Bckd}


def build_method(spec: MethodSpec) -> Method:
    """The method that a spec describes."""
    return METHODS[type(spec)](spec)


__all__ = ["METHODS", "Method", "build_method"]
