"""Teacher and student side by side: the same sites, the same classes, the same kind of score.

A student site asks one teacher site, chosen by one of four matchers (`choose`): the same site where both predict at
the same places; the best of several anchors of the location; the one anchor of the location; or, where strides differ,
the site whose prior overlaps most. Each is the identity on an identical pair.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bcd import boxes as B
from bcd.models.detector import Assignment
from bcd.spec.plan import MIN_OVERLAP
from bcd.types import DenseOutputs, SiteGrid

# A site of several anchors asks for a teacher's box that its prior overlaps by this: RetinaNet's own bound for a
# positive anchor.
MIN_ANCHOR_OVERLAP = 0.5
# IoUs of equal boxes may differ by this in fp32: they count as a tie.
_TIE = 1e-6
_KEPT = 64


class MatchError(ValueError):
    """Two models that cannot be compared, with the reason."""


@dataclass(frozen=True)
class Sites:
    """Which teacher site each student site asks: (A,) or (B, A) indices, None for "the same".

    `weight` is 0 at student sites that have nobody to ask, (A,) or (B, A); None: all have.
    """

    index: Tensor | None = None
    weight: Tensor | None = None

    def pick(self, values: Tensor) -> Tensor:
        """The teacher's values (B, A_t, ...) at the student's sites (B, A, ...). The identity copies nothing."""
        if self.index is None:
            return values
        if self.index.ndim == 1:
            return values.index_select(1, self.index)
        index = self.index.view(*self.index.shape, *(1,) * (values.ndim - 2))
        return values.gather(1, index.expand(-1, -1, *values.shape[2:]))


class Matched:
    """Scores and boxes of both models at the student's sites, for the M classes that they share, as fp32.

    `student_logits_BAM` and `teacher_logits_BAM` are raw class logits, the `..._ranked_BAM` forms hold the logit of
    the score by which detections are ranked at test time (class probability times centerness where a head has one).
    `weight_BA` is how much a site takes part: 0 in the padding and where the teacher has nothing to say. Each is
    computed when it is first asked for.
    """

    def __init__(self, student: DenseOutputs, teacher: DenseOutputs, classes: ClassMap, assigned: Assignment):
        self._student, self._teacher, self._assigned = student, teacher, assigned
        self.classes, self.sites = classes, match_sites(student, teacher, classes)

    def student_scores(self, kind: Literal["ranked", "class"]) -> Tensor:
        """(B, A, M) logits of the student's scores of a kind."""
        return self.student_ranked_BAM if kind == "ranked" else self.student_logits_BAM

    def teacher_scores(self, kind: Literal["ranked", "class"]) -> Tensor:
        """(B, A, M) logits of the teacher's scores of a kind, at the student's sites."""
        return self.teacher_ranked_BAM if kind == "ranked" else self.teacher_logits_BAM

    @cached_property
    def student_logits_BAM(self) -> Tensor:
        return _pick_classes(self._student.logits_BAC.float(), self.classes.student)

    @cached_property
    def teacher_logits_BAM(self) -> Tensor:
        return _pick_classes(self.sites.pick(self._teacher.logits_BAC).float(), self.classes.teacher)

    @cached_property
    def student_ranked_BAM(self) -> Tensor:
        return rank(self.student_logits_BAM, self._student.centerness_BA, self._student.score)

    @cached_property
    def teacher_ranked_BAM(self) -> Tensor:
        centerness_BA = self._teacher.centerness_BA
        picked_BA = None if centerness_BA is None else self.sites.pick(centerness_BA)
        return rank(self.teacher_logits_BAM, picked_BA, self._teacher.score)

    @cached_property
    def student_boxes_BA4(self) -> Tensor:
        return self._student.boxes_BA4.float()

    @cached_property
    def teacher_boxes_BA4(self) -> Tensor:
        return self.sites.pick(self._teacher.boxes_BA4).float()

    @cached_property
    def teacher_dist_BA4R(self) -> Tensor | None:
        found = self._teacher.dist_BA4R
        return None if found is None else self.sites.pick(found).float()

    @cached_property
    def weight_BA(self) -> Tensor:
        weight_BA = self._assigned.site_weight_BA
        if self._teacher.known_BA is not None:
            weight_BA = weight_BA * self.sites.pick(self._teacher.known_BA)
        return weight_BA if self.sites.weight is None else weight_BA * self.sites.weight

    @cached_property
    def same_place_A(self) -> Tensor | None:
        """(A,) or (B, A): 1 where the teacher's site has the student site's centre and stride, so that distances to
        the sides may be compared bin by bin; None: everywhere."""
        ours, theirs, index = self._student.grid, self._teacher.grid, self.sites.index
        if index is None and _same_layout(ours, theirs):
            return None
        stride, centre = theirs.stride_A, theirs.centre_A2
        if index is not None:
            stride, centre = stride[index], centre[index]
        return ((stride == ours.stride_A) & ((centre - ours.centre_A2).abs().amax(-1) < 1e-3)).float()


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


def rank(logits: Tensor, centerness: Tensor | None, score: Literal["product", "sqrt"] = "product") -> Tensor:
    """Logit (..., C), fp32, of the score that ranks detections: class probability times centerness (...), if any, or
    the root of that.

    With class logit a and centerness logit b, p = sigmoid(a) sigmoid(b) has the logit
    -log(exp(-a) (1 + exp(-b)) + exp(-b)), which neither overflows nor loses digits however large a and b are. Its root
    has that logit plus log(1 + 1 / sqrt(p)).
    """
    logits = logits.float()
    if centerness is None:
        return logits
    away = -centerness.float()[..., None]
    product = -torch.logaddexp(F.softplus(away) - logits, away)
    if score == "product":
        return product
    return product + F.softplus((F.softplus(-product)) / 2)


def ranked_logits(outputs: DenseOutputs) -> Tensor:
    """Logit (B, A, C), fp32, of the score by which a detector ranks its own detections (see `rank`)."""
    return rank(outputs.logits_BAC, outputs.centerness_BA, outputs.score)


def match(student: DenseOutputs, teacher: DenseOutputs, classes: ClassMap, assigned: Assignment) -> Matched:
    """Both models' outputs at the student's sites."""
    return Matched(student, teacher, classes, assigned)


def _pick_classes(values: Tensor, index: Tensor | None) -> Tensor:
    return values if index is None else values[..., index]


# --- matchers ----------------------------------------------------------------------------------------------------

Matcher = Literal["identity", "best_anchor", "anchors", "overlap"]


def choose(student: SiteGrid, teacher: SiteGrid) -> Matcher:
    """The matcher of a pair of grids; a matter of shapes alone."""
    if _same_layout(student, teacher):
        return "identity"
    if student.shapes == teacher.shapes and student.strides == teacher.strides:
        if student.anchors == teacher.anchors == 1:
            return "identity"
        if student.anchors == 1:
            return "best_anchor"
        if teacher.anchors == 1:
            return "anchors"
    return "overlap"


def match_sites(student: DenseOutputs, teacher: DenseOutputs, classes: ClassMap) -> Sites:
    """Which teacher site each student site asks, by the matcher that `choose` names."""
    kind = choose(student.grid, teacher.grid)
    if kind == "identity":
        return Sites()
    if kind == "best_anchor":
        return best_anchor(teacher, classes)
    if kind == "anchors":
        return overlapping_anchors(student.grid, teacher)
    return overlapping_sites(student.grid, teacher.grid)


def best_anchor(teacher: DenseOutputs, classes: ClassMap) -> Sites:
    """One site for each location asks the location's best teacher anchor: highest ranked score of any shared class."""
    anchors = teacher.grid.anchors
    score_BA = _pick_classes(teacher.logits_BAC, classes.teacher).float().amax(-1)
    score_BA = rank(score_BA[..., None], teacher.centerness_BA)[..., 0]  # monotone in it, and the root is monotone too
    if teacher.known_BA is not None:
        score_BA = score_BA.masked_fill(~teacher.known_BA.bool(), -torch.inf)
    best_BN = score_BA.view(len(score_BA), -1, anchors).argmax(-1)
    return Sites(best_BN + torch.arange(best_BN.shape[1], device=best_BN.device) * anchors)


def overlapping_anchors(student: SiteGrid, teacher: DenseOutputs) -> Sites:
    """Several sites of a location ask its only teacher site, but only those it speaks of: priors that overlap the
    teacher's box by `MIN_ANCHOR_OVERLAP`, or the location's best one."""
    anchors = student.anchors
    index_A = torch.arange(len(student), device=student.level_A.device) // anchors
    boxes_BA4 = teacher.boxes_BA4.float().repeat_interleave(anchors, dim=1)
    iou_BNK = B.iou(student.prior_A4, boxes_BA4).view(len(boxes_BA4), -1, anchors)
    # One best even where several tie or none overlaps: argmax takes the first.
    best_BNK = iou_BNK.argmax(-1, keepdim=True) == torch.arange(anchors, device=iou_BNK.device)
    return Sites(index_A, ((iou_BNK >= MIN_ANCHOR_OVERLAP) | best_BNK).flatten(1).float())


_OVERLAPS: OrderedDict[Hashable, Sites] = OrderedDict()


def overlapping_sites(student: SiteGrid, teacher: SiteGrid) -> Sites:
    """Each site asks the teacher site whose prior has the highest IoU with its own prior, at least `MIN_OVERLAP`;
    ties go to the nearest centre.

    Kept for each pair of grids: it depends on their layout alone.
    """
    if student.layout is None or teacher.layout is None:
        return _overlapping_sites(student, teacher)
    key = (student.layout, teacher.layout, student.level_A.device)
    if key not in _OVERLAPS:
        # A preflight may be the first to ask, in inference mode; training must still be able to use the same tensors.
        with torch.inference_mode(False):
            _OVERLAPS[key] = _overlapping_sites(student, teacher)
        while len(_OVERLAPS) > _KEPT:
            _OVERLAPS.popitem(last=False)
    return _OVERLAPS[key]


def _overlapping_sites(student: SiteGrid, teacher: SiteGrid) -> Sites:
    """Memory linear in sites: within a level, priors of one size are copies on a regular grid of centres, and overlap
    falls with the distance in x and in y, so that only the copy at the nearest centre need be looked at."""
    centre_A2, prior_A4, anchors = student.centre_A2, student.prior_A4, teacher.anchors
    best_A, distance_A = torch.full_like(centre_A2[:, 0], -1.0), torch.full_like(centre_A2[:, 0], torch.inf)
    index_A = torch.zeros_like(student.level_A)
    for (rows, columns), level in zip(teacher.shapes, teacher.levels, strict=True):
        location_A = torch.zeros_like(index_A)
        for axis, (count, hop) in enumerate(((columns, anchors), (rows, columns * anchors))):
            if count == 1:
                continue
            first = teacher.centre_A2[level.start, axis]
            step = teacher.centre_A2[level.start + hop, axis] - first
            # Half-way between two centres: the lower one.
            nearest_A = ((centre_A2[:, axis] - first) / step - 0.5).ceil().clamp(0, count - 1).long()
            location_A += nearest_A * (hop // anchors)
        for anchor in range(anchors):
            site_A = level.start + location_A * anchors + anchor
            iou_A = B.iou(prior_A4, teacher.prior_A4[site_A])
            apart_A = (teacher.centre_A2[site_A] - centre_A2).square().sum(-1)
            better_A = (iou_A > best_A + _TIE) | ((iou_A > best_A - _TIE) & (apart_A < distance_A))
            best_A = torch.where(better_A, iou_A, best_A)
            distance_A = torch.where(better_A, apart_A, distance_A)
            index_A = torch.where(better_A, site_A, index_A)
    return Sites(index_A, (best_A >= MIN_OVERLAP).float())


def _same_layout(student: SiteGrid, teacher: SiteGrid) -> bool:
    if student is teacher:
        return True
    if student.layout is None or teacher.layout is None:
        return student.shapes == teacher.shapes and student.anchors == teacher.anchors
    return student.layout == teacher.layout
