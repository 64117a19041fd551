"""The teacher: a frozen detector with its own normalisation.

It is never part of the student's module tree, so the student's checkpoint is the plain student.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bcd.methods.match import ClassMap, MatchError
from bcd.models.detector import Detector
from bcd.types import DenseOutputs, HeadTrace

View = tuple[int, bool]  # an image by its id, and whether it is mirrored


class TeacherError(ValueError):
    """A teacher that cannot teach this student, with the reason."""


class Teacher:
    """Runs a detector without gradient on the student's images.

    `classes` says which of its classes are which of the student's. Raises `TeacherError` when none is. `reads` names
    what the methods read of its outputs (see `Need`): feature maps that nobody reads are not copied.
    """

    def __init__(
        self,
        model: Detector,
        student: Detector,
        device: torch.device,
        renamed: Mapping[str, str] | None = None,
        reads: Collection[str] = ("features",),
    ):
        try:
            classes = ClassMap.by_name(student.info.class_names, model.info.class_names, renamed)
        except MatchError as error:
            raise TeacherError(str(error)) from None
        self.classes = classes.to(device)
        self.model = model.to(device).eval().requires_grad_(False)
        self.reads = frozenset(reads)
        self.forward: Callable[..., Any] = self.model

    def compile(self, backend: str) -> None:
        """Compile the forward pass."""
        self.forward = torch.compile(self.model, backend=backend)

    def __call__(
        self,
        images_B3HW: Tensor,
        autocast: AbstractContextManager[Any],
        views: tuple[View, ...] = (),
        trace: tuple[int, ...] = (),
    ) -> DenseOutputs:
        """Its own outputs for uint8 images (B, 3, H, W). The views are for `CachedTeacher`.

        The network runs in inference mode. Losses need ordinary tensors (autograd keeps them), so what methods read is
        copied out of it: raw outputs, and maps only where a method reads maps.
        """
        with torch.inference_mode(), autocast:
            out: DenseOutputs = self.forward(self.model.normalize(images_B3HW), trace)
        if "features" not in self.reads:
            # Their shapes are still asked for by `head`.
            kept: DenseOutputs = _ordinary(replace(out, features=()))
            return replace(kept, features=out.features)
        found: DenseOutputs = _ordinary(out)
        return found

    def head(self, trace: HeadTrace, outputs: DenseOutputs, autocast: AbstractContextManager[Any]) -> DenseOutputs:
        """Its head's outputs from maps inside the towers; gradient flows into the maps, not into its weights."""
        with autocast:
            return self.model.continue_from(trace, outputs)


def _ordinary(value: Any) -> Any:
    """Tensors made in inference mode as ordinary ones, in any nesting of tuples and dataclasses."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, tuple):
        return tuple(_ordinary(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _ordinary(getattr(value, f.name)) for f in fields(value)})
    return value
