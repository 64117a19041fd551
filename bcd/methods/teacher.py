"""The teacher: a frozen detector with its own normalisation.

It is never part of the student's module tree, so the student's checkpoint is the plain student.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from bcd.methods.match import ClassMap, MatchError
from bcd.models.detector import Detector
from bcd.types import DenseOutputs, HeadTrace


class TeacherError(ValueError):
    """A teacher that cannot teach this student, with the reason."""


class Teacher:
    """Runs a detector without gradient on the student's images.

    `classes` says which of its classes are which of the student's. Raises `TeacherError` when none is.
    """

    def __init__(
        self, model: Detector, student: Detector, device: torch.device, renamed: Mapping[str, str] | None = None
    ):
        try:
            classes = ClassMap.by_name(student.info.class_names, model.info.class_names, renamed)
        except MatchError as error:
            raise TeacherError(str(error)) from None
        self.classes = classes.to(device)
        self.model = model.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(
        self,
        images_B3HW: Tensor,
        autocast: AbstractContextManager[Any],
        image_ids: tuple[int, ...] = (),
        trace: tuple[int, ...] = (),
    ) -> DenseOutputs:
        """Its own outputs for uint8 images (B, 3, H, W). The ids are for `CachedTeacher`."""
        with autocast:
            out: DenseOutputs = self.model(self.model.normalize(images_B3HW), trace)
        return out

    def head(self, trace: HeadTrace, outputs: DenseOutputs, autocast: AbstractContextManager[Any]) -> DenseOutputs:
        """Its head's outputs from maps inside the towers; gradient flows into the maps, not into its weights."""
        with autocast:
            return self.model.continue_from(trace, outputs)
