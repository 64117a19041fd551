"""What one training step computes: the student's task loss plus the terms of every distillation method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bcd.methods import Method, Step
from bcd.methods.base import trace_depths
from bcd.methods.teacher import Teacher, View
from bcd.methods.teacher_cache import CachedTeacher
from bcd.models.detector import Detector, without_ignored
from bcd.types import Targets


class DetectionTask:
    """Student, and for distillation a teacher and methods. Returns terms by name, `loss` being their sum."""

    def __init__(
        self, student: Detector, teacher: Teacher | CachedTeacher | None = None, methods: Sequence[Method] = ()
    ):
        self.student, self.teacher, self.methods = student, teacher, list(methods)
        self._forward: Callable[..., Any] = student

    def compile(self, backend: str) -> None:
        """Compile the forward pass of student and teacher. The modules stay as they are: same names, same files."""
        self._forward = torch.compile(self.student, backend=backend)
        if isinstance(self.teacher, Teacher):
            self.teacher.compile(backend)

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Without compiled code for a while: hooks of modules run only then."""
        teacher = self.teacher if isinstance(self.teacher, Teacher) else None
        before = self._forward, None if teacher is None else teacher.forward
        self._forward = self.student
        if teacher is not None:
            teacher.forward = teacher.model
        try:
            yield
        finally:
            self._forward = before[0]
            if teacher is not None and before[1] is not None:
                teacher.forward = before[1]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All modules that take part in a step, by a name for people."""
        found: dict[str, nn.Module] = {"student": self.student}
        if isinstance(self.teacher, Teacher):
            found["teacher"] = self.teacher.model
        return found | {f"methods.{n}": method for n, method in enumerate(self.methods)}

    def __call__(
        self,
        images_B3HW: Tensor,
        targets: Targets,
        progress: float,
        autocast: AbstractContextManager[Any],
        views: tuple[View, ...] = (),
    ) -> dict[str, Tensor]:
        """Loss terms of uint8 images. `progress` in [0, 1) is how much of the run is done, for warm-ups.

        `views` say which image each one is, and whether it is mirrored: a kept teacher looks them up.
        """
        student = self.student
        student_depths, teacher_depths = trace_depths(self.methods)
        with autocast:
            out = self._forward(student.normalize(images_B3HW), student_depths)
        assigned = without_ignored(student.assign(out, targets), out.grid, targets)
        terms = student.task_loss(out, targets, assigned)
        active = [(method, factor) for method in self.methods if (factor := warmup_factor(method, progress)) > 0]
        teacher = self.teacher
        if active and teacher is not None:
            teacher_out = teacher(images_B3HW, autocast, views, teacher_depths)
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
