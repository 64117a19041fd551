"""What a distillation method is: what it needs from the models, and its loss terms."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from bcd.models.detector import Assignment
from bcd.types import DenseOutputs

Need = Literal["scores", "boxes", "distributions", "features", "head"]


class Method:
    """Base class. A method reads `DenseOutputs` and the student's label assignment, and nothing else of a model.

    `needs` names what it reads of both models' outputs. It has no default: a method that forgot it would be given
    kept teacher outputs that lack what it reads. `loss` returns terms by name, before the schedule's weight; the task
    multiplies them by the method's weight and warm-up and adds them up.
    """

    needs: frozenset[Need]

    def __init__(self, spec: Any):
        self.spec = spec

    def loss(self, student: DenseOutputs, teacher: DenseOutputs, assigned: Assignment) -> dict[str, Tensor]:
        """Loss terms as scalars, fp32, already divided. Teacher outputs carry no gradient."""
        raise NotImplementedError
