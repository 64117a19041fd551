"""What one training step computes: the student's task loss plus the terms of every distillation method."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from bcd.methods import Method, Step, trace_depths
from bcd.methods.teacher import Teacher
from bcd.methods.teacher_cache import CachedTeacher
from bcd.models.detector import Detector
from bcd.types import Targets


class DetectionTask:
    """Student, and for distillation a teacher and methods. Returns terms by name, `loss` being their sum."""

    def __init__(
        self, student: Detector, teacher: Teacher | CachedTeacher | None = None, methods: Sequence[Method] = ()
    ):
        self.student, self.teacher, self.methods = student, teacher, list(methods)

    def __call__(
        self,
        images_B3HW: Tensor,
        targets: Targets,
        progress: float,
        autocast: AbstractContextManager[Any],
        image_ids: tuple[int, ...] = (),
    ) -> dict[str, Tensor]:
        """Loss terms of uint8 images. `progress` in [0, 1) is how much of the run is done, for warm-ups."""
        student = self.student
        student_depths, teacher_depths = trace_depths(self.methods)
        with autocast:
            out = student(student.normalize(images_B3HW), student_depths)
        assigned = student.assign(out, targets)
        terms = student.task_loss(out, targets, assigned)
        active = [(method, factor) for method in self.methods if (factor := warmup_factor(method, progress)) > 0]
        teacher = self.teacher
        if active and teacher is not None:
            teacher_out = teacher(images_B3HW, autocast, image_ids, teacher_depths)
            step = Step.of(
                out,
                teacher_out,
                assigned,
                targets,
                teacher.classes,
                lambda maps: teacher.head(maps, teacher_out, autocast),
            )
            for method, factor in active:
                for name, value in method(step).items():
                    # A spec may list a method twice, with other settings.
                    terms[name] = terms[name] + factor * value if name in terms else factor * value
        terms["loss"] = torch.stack(list(terms.values())).sum()
        return terms


def warmup_factor(method: Method, progress: float) -> float:
    """Weight of a method, rising linearly from 0 over its warm-up."""
    warmup = method.spec.warmup
    return float(method.spec.weight * (min(progress / warmup, 1.0) if warmup > 0 else 1.0))
