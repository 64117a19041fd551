"""What a distillation method is: what it needs from the models, and its loss terms."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from bcd.models.detector import Assignment
from bcd.types import DenseOutputs

Need = Literal["scores", "boxes", "distributions", "features", "head"]


class Method:
    """Base class. A method reads `DenseOutputs` and the student's label assignment, and nothing else of a model.

    `needs` names what it reads, for both models. `loss` returns unweighted-by-schedule terms by
    name; the task multiplies them by the method's weight and warm-up and adds them up.
    """

    needs: frozenset[Need] = frozenset()

    def __init__(self, spec: Any):
        self.spec = spec

    @property
    def name(self) -> str:
        return str(self.spec.type)

    def loss(self, student: DenseOutputs, teacher: DenseOutputs, assigned: Assignment) -> dict[str, Tensor]:
        """Loss terms as scalars, fp32, already divided. Teacher outputs carry no gradient."""
        raise NotImplementedError
