"""What a distillation method is: what it needs from the models, and its loss terms."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bcd.methods.match import ClassMap, Matched, match
from bcd.models.detector import Assignment, Detector
from bcd.types import DenseOutputs, HeadTrace, Targets

Need = Literal["scores", "boxes", "distributions", "centerness", "features", "head"]


SAME_CLASSES = ClassMap(None, None)


def no_head(trace: HeadTrace) -> DenseOutputs:
    raise NotImplementedError("there is no teacher's head to go on with")


@dataclass(frozen=True)
class Step:
    """All that a method may read of one training step. Nothing of the teacher carries gradient.

    `teacher` are the teacher's own outputs, with its own sites and classes; `matched` holds both models' scores and
    boxes at the student's sites, for the classes that they share. `assigned` and `targets` are the student's.
    `teacher_head` lets the teacher's head go on from maps inside the towers; gradient flows into the maps.
    """

    student: DenseOutputs
    teacher: DenseOutputs
    matched: Matched
    assigned: Assignment
    targets: Targets
    teacher_head: Callable[[HeadTrace], DenseOutputs]

    @classmethod
    def of(
        cls,
        student: DenseOutputs,
        teacher: DenseOutputs,
        assigned: Assignment,
        targets: Targets,
        classes: ClassMap = SAME_CLASSES,
        teacher_head: Callable[[HeadTrace], DenseOutputs] = no_head,
    ) -> Step:
        """A step from both models' outputs."""
        return cls(student, teacher, match(student, teacher, classes, assigned), assigned, targets, teacher_head)


class Method(nn.Module):
    """Base class. A method reads a `Step` and nothing else of a model.

    `needs` names what it reads of both models' outputs. It has no default: a method that forgot it would be given
    kept teacher outputs that lack what it reads. `trace` holds the depths in the student's and in the teacher's towers
    at which it reads their maps, if it does.

    A method may hold parameters of its own (projections, say): they are trained with the student, kept in checkpoints,
    and are never part of the student's file. They must be drawn without touching torch's global generator, so that a
    student starts from the same weights whatever method it gets: use `own_generator` and `own_conv`.

    `forward` returns terms by name, before the spec's weight; the task multiplies them by the method's weight and
    warm-up and adds them up. A term is called `<type>_<part>`; one whose own weight is 0 is left out.
    """

    needs: frozenset[Need]
    trace: tuple[int, int] | None = None

    def __init__(self, spec: Any, student: Detector, teacher: Detector):
        super().__init__()
        self.spec = spec

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Loss terms as scalars, fp32, already divided."""
        raise NotImplementedError


def own_generator(name: str) -> torch.Generator:
    """A generator for a method's own parameters: torch's global one stays as it is, and the same name always gives the
    same values, whatever the run's seed."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def own_conv(inside: int, outside: int, generator: torch.Generator) -> nn.Conv2d:
    """A 1x1 convolution with torch's usual weights and no bias at first, drawn from `generator`."""
    conv: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, inside, outside, 1)  # type: ignore[no-untyped-call]
    assert conv.bias is not None
    nn.init.kaiming_uniform_(conv.weight, a=math.sqrt(5), generator=generator)
    nn.init.zeros_(conv.bias)
    return conv


def trace_depths(methods: Iterable[Method]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The depths of the student's and of the teacher's towers that methods read, each once, ascending."""
    wanted = [method.trace for method in methods if method.trace is not None]
    student, teacher = (tuple(sorted({depths[i] for depths in wanted})) for i in range(2))
    return student, teacher
