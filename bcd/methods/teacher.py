"""The teacher: a frozen detector with its own normalisation and its classes in the student's order.

It is never part of the student's module tree, so the student's checkpoint is the plain student.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from bcd.models.detector import Detector
from bcd.types import DenseOutputs


class TeacherError(ValueError):
    """A teacher that cannot teach this student, with the reason."""


class Teacher:
    """Runs a detector without gradient on the student's images.

    Raises `TeacherError` when its classes are not the student's or its sites are not the student's sites.
    """

    def __init__(self, model: Detector, student: Detector, device: torch.device):
        self._classes = _class_order(model.info.class_names, student.info.class_names)
        _check_sites(model, student)
        self._model = model.to(device).eval().requires_grad_(False)
        if self._classes is not None:
            self._classes = self._classes.to(device)

    @torch.no_grad()
    def __call__(
        self, images_B3HW: Tensor, autocast: AbstractContextManager[Any], image_ids: tuple[int, ...] = ()
    ) -> DenseOutputs:
        """Outputs for uint8 images (B, 3, H, W), classes in the student's order. The ids are for `CachedTeacher`."""
        with autocast:
            out: DenseOutputs = self._model(self._model.normalize(images_B3HW))
        if self._classes is None:
            return out
        return dataclasses.replace(out, logits_BAC=out.logits_BAC[..., self._classes])


def _class_order(teacher: Sequence[str], student: Sequence[str]) -> Tensor | None:
    if tuple(teacher) == tuple(student):
        return None
    if set(teacher) != set(student):
        missing, extra = sorted(set(student) - set(teacher)), sorted(set(teacher) - set(student))
        parts = [f"it lacks {', '.join(missing[:10])}"] if missing else []
        parts += [f"it has {', '.join(extra[:10])} that the data does not"] if extra else []
        raise TeacherError(
            f"the teacher's {len(teacher)} classes are not the data's {len(student)} classes: {'; '.join(parts)}. "
            "Train a teacher on this data set, or give the data the teacher's classes"
        )
    return torch.tensor([list(teacher).index(name) for name in student])


def _check_sites(teacher: Detector, student: Detector) -> None:
    ours, theirs = student.info.arguments, teacher.info.arguments
    if ours["strides"] != theirs["strides"]:
        raise TeacherError(
            f"the teacher predicts at strides {theirs['strides']}, the student at {ours['strides']}; "
            "give the student the teacher's strides"
        )
