"""Teacher and student side by side: the same sites, the same classes, the same kind of score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bcd.models.detector import Assignment
from bcd.types import DenseOutputs


class MatchError(ValueError):
    """Two models that cannot be compared, with the reason."""


@dataclass(frozen=True)
class Matched:
    """Scores and boxes of both models at the student's sites, for the M classes that they share.

    `student_logits_BAM` and `teacher_logits_BAM` are raw class logits, the `..._ranked_BAM` forms hold the logit of
    the score by which detections are ranked at test time (class probability times centerness where a head has one).
    `weight_BA` is how much a site takes part: 0 in the padding and where the teacher has nothing to say.
    """

    student_logits_BAM: Tensor
    teacher_logits_BAM: Tensor
    student_ranked_BAM: Tensor
    teacher_ranked_BAM: Tensor
    student_boxes_BA4: Tensor
    teacher_boxes_BA4: Tensor
    teacher_dist_BA4R: Tensor | None
    weight_BA: Tensor


@dataclass(frozen=True)
class ClassMap:
    """Which student class is which teacher class: equally long index tensors, None for "all, in the same order"."""

    student: Tensor | None
    teacher: Tensor | None
    unmapped: tuple[str, ...] = ()

    @classmethod
    def by_name(
        cls, student: Sequence[str], teacher: Sequence[str], renamed: Mapping[str, str] | None = None
    ) -> ClassMap:
        """Match classes by name; `renamed` gives the teacher's name of student classes that are called otherwise.

        Classes that only one of the two knows take no part. Raises `MatchError` when nothing is left.
        """
        renamed = dict(renamed or {})
        if unknown := sorted(set(renamed) - set(student)):
            raise MatchError(f"teacher.classes renames classes that the data does not have: {', '.join(unknown[:10])}")
        if unknown := sorted(set(renamed.values()) - set(teacher)):
            raise MatchError(f"teacher.classes names classes that the teacher does not have: {', '.join(unknown[:10])}")
        wanted = [renamed.get(name, name) for name in student]
        if tuple(wanted) == tuple(teacher):
            return cls(None, None)
        index = {name: i for i, name in enumerate(teacher)}
        ours = [i for i, name in enumerate(wanted) if name in index]
        if not ours:
            raise MatchError(
                f"the teacher's {len(teacher)} classes ({_few(teacher)}) and the data's {len(student)} "
                f"({_few(student)}) have no name in common; give teacher.classes, a table from the "
                "data's names to the teacher's"
            )
        theirs = [index[wanted[i]] for i in ours]
        missing = tuple(name for i, name in enumerate(student) if wanted[i] not in index)
        return cls(
            torch.tensor(ours) if missing else None,
            None if theirs == list(range(len(teacher))) else torch.tensor(theirs),
            missing,
        )

    def to(self, device: torch.device) -> ClassMap:
        move = [None if t is None else t.to(device) for t in (self.student, self.teacher)]
        return ClassMap(move[0], move[1], self.unmapped)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def ranked_logits(outputs: DenseOutputs) -> Tensor:
    """Logit (B, A, C), fp32, of the score that ranks detections: class probability times centerness, if any.

    With log p = logsigmoid(class) + logsigmoid(centerness): logit = log p - log(1 - p).
    """
    logits_BAC = outputs.logits_BAC.float()
    if outputs.centerness_BA is None:
        return logits_BAC
    log_p = F.logsigmoid(logits_BAC) + F.logsigmoid(outputs.centerness_BA.float())[..., None]
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-7)))


def match(student: DenseOutputs, teacher: DenseOutputs, classes: ClassMap, assigned: Assignment) -> Matched:
    """Both models' outputs at the student's sites. Raises `MatchError` for grids that cannot be matched."""
    if student.grid.shapes != teacher.grid.shapes or student.grid.anchors != teacher.grid.anchors:
        raise MatchError(
            f"the teacher predicts at strides {list(teacher.grid.strides)}, the student at {list(student.grid.strides)}"
        )

    def pick(values: Tensor, index: Tensor | None) -> Tensor:
        return values if index is None else values[..., index]

    weight_BA = assigned.site_weight_BA
    if teacher.known_BA is not None:
        weight_BA = weight_BA * teacher.known_BA
    ours, theirs = student.logits_BAC.float(), teacher.logits_BAC.float()
    return Matched(
        student_logits_BAM=pick(ours, classes.student),
        teacher_logits_BAM=pick(theirs, classes.teacher),
        student_ranked_BAM=pick(ranked_logits(student), classes.student),
        teacher_ranked_BAM=pick(ranked_logits(teacher), classes.teacher),
        student_boxes_BA4=student.boxes_BA4.float(),
        teacher_boxes_BA4=teacher.boxes_BA4.float(),
        teacher_dist_BA4R=teacher.dist_BA4R,
        weight_BA=weight_BA,
    )
