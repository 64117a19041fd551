"""Which teacher site a student site asks, which classes take part, and what a score is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bcd import boxes as B
from bcd.methods.match import (
    MIN_OVERLAP,
    ClassMap,
    MatchError,
    Sites,
    best_anchor,
    choose,
    overlapping_anchors,
    overlapping_sites,
    rank,
)
from bcd.models.sites import Priors, site_grid
from bcd.types import DenseOutputs, SiteGrid
from tests.helpers.pairs import FAMILIES, SAME_CLASSES, detector, frozen, step_of

CPU = torch.device("cpu")
NINE = Priors(tuple((s * r, s / r) for r in (0.7, 1.0, 1.4) for s in (4.0, 5.0, 6.3)))


def grid(size: tuple[int, int], strides: tuple[int, ...], priors: Priors = Priors()) -> SiteGrid:
    return site_grid([(-(-size[0] // s), -(-size[1] // s)) for s in strides], strides, CPU, priors)


def outputs(of: SiteGrid, images: int = 2, classes: int = 3, seed: int = 0) -> DenseOutputs:
    g = torch.Generator().manual_seed(seed)
    boxes = of.prior_A4 + torch.randn(images, len(of), 4, generator=g)
    logits = torch.randn(images, len(of), classes, generator=g)
    return DenseOutputs(logits, boxes, None, None, (), of)


def assert_identity(sites: Sites, count: int) -> None:
    index, weight = sites.index, sites.weight
    if index is not None:
        assert torch.equal(index, torch.arange(count).expand(index.shape))
    if weight is not None:
        assert torch.equal(weight, torch.ones(weight.shape))


@pytest.mark.parametrize("strides", [(8, 16, 32), (16,), (64, 128)])
def test_every_matcher_is_the_identity_on_an_identical_pair(strides: tuple[int, ...]):
    one, nine = grid((100, 130), strides), grid((100, 130), strides, NINE)
    assert choose(one, one) == choose(nine, nine) == "identity"
    assert_identity(best_anchor(outputs(one), SAME_CLASSES), len(one))
    assert_identity(overlapping_anchors(one, outputs(one)), len(one))
    for same in (one, nine, grid((100, 130), strides, Priors.square(3, 0.5))):
        assert_identity(overlapping_sites(same, same), len(same))


def test_the_matcher_follows_from_places_and_anchors():
    one, middle, nine = (grid((64, 96), (8, 16), p) for p in (Priors(), Priors.square(8, 0.5), NINE))
    fewer = grid((64, 96), (8, 16), Priors(NINE.sizes[:3]))
    assert choose(one, middle) == "identity"  # FCOS's points lie in the middle of GFL's cells
    assert choose(one, nine) == "best_anchor"
    assert choose(nine, one) == "anchors"
    assert choose(nine, fewer) == choose(fewer, nine) == "overlap"
    assert choose(nine, grid((64, 96), (8, 16), Priors(NINE.sizes[::-1]))) == "overlap"
    assert choose(one, grid((64, 96), (16, 32))) == "overlap"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_identical_pair_is_compared_without_copies(family: str):
    student = detector(family)
    step = step_of(student, frozen(student), [])
    pair, teacher = step.matched, step.teacher
    assert pair.sites == Sites()
    assert pair.same_place_A is None
    for ours, theirs in (
        (pair.teacher_logits_BAM, teacher.logits_BAC),
        (pair.teacher_boxes_BA4, teacher.boxes_BA4),
        (pair.student_logits_BAM, step.student.logits_BAC),
        (pair.student_boxes_BA4, step.student.boxes_BA4),
    ):
        assert ours.data_ptr() == theirs.data_ptr()
    assert torch.equal(pair.weight_BA, step.assigned.site_weight_BA)


def brute_force(student: SiteGrid, teacher: SiteGrid) -> tuple[Tensor, Tensor]:
    """Highest IoU of each student site with any teacher site, and the least squared distance among the ties."""
    iou = B.iou(student.prior_A4[:, None], teacher.prior_A4[None])
    best = iou.amax(1)
    apart = (student.centre_A2[:, None] - teacher.centre_A2[None]).square().sum(-1)
    return best, apart.masked_fill(iou < best[:, None] - 1e-6, torch.inf).amin(1)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (grid((96, 128), (8, 16, 32)), grid((96, 128), (4, 8))),
        (grid((96, 128), (16, 32)), grid((96, 128), (8, 16, 32), NINE)),
        (grid((96, 128), (8, 16), NINE), grid((96, 128), (16, 32), Priors.square(8, 0.5))),
        (grid((96, 128), (8, 16), NINE), grid((96, 128), (8, 16), Priors(NINE.sizes[:2]))),
        (grid((33, 70), (8, 64), Priors.square(2)), grid((33, 70), (16, 128))),
        (grid((64, 64), (8,), Priors.square(1)), grid((64, 64), (64,))),
    ],
)
def test_overlap_finds_what_a_comparison_of_all_priors_finds(student: SiteGrid, teacher: SiteGrid):
    found = overlapping_sites(student, teacher)
    best, apart = brute_force(student, teacher)
    assert found.index is not None
    ours = B.iou(student.prior_A4, teacher.prior_A4[found.index])
    used = best >= MIN_OVERLAP + 1e-5
    torch.testing.assert_close(ours[used], best[used], rtol=0, atol=2e-6)
    distance = (student.centre_A2 - teacher.centre_A2[found.index]).square().sum(-1)
    torch.testing.assert_close(distance[used], apart[used])
    unclear = (best - MIN_OVERLAP).abs() < 1e-5
    assert torch.equal(found.weight[~unclear], used.float()[~unclear])


def test_of_equal_overlaps_the_nearest_centre_counts():
    student = grid((32, 32), (8,), Priors.square(2))
    teacher = grid((32, 32), (8, 16), Priors(pixels=(((12.0, 12.0),), ((12.0, 12.0),))))
    fine, shift = teacher.levels[0].stop, torch.zeros(len(teacher), 1)
    shift[:fine] = 2.0  # both levels' priors lie inside the student's at (0, 0), the second one's in its middle
    moved = replace(teacher, centre_A2=teacher.centre_A2 + shift, prior_A4=teacher.prior_A4 + shift, layout=None)
    found = overlapping_sites(student, moved).index.view(4, 4)
    assert found[0].tolist() == [fine, 1, fine + 1, 3]


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.numel())
        return out


def test_overlap_takes_memory_linear_in_sites():
    student, teacher = grid((640, 800), (8, 16, 32)), grid((640, 800), (4, 8, 16, 32), NINE)
    with Largest() as seen:
        overlapping_sites(replace(student, layout=None), teacher)
    assert seen.elements <= 4 * len(student)


def test_overlaps_are_computed_once_for_a_pair_of_grids():
    student, teacher = grid((72, 72), (8, 16)), grid((72, 72), (4, 8))
    assert overlapping_sites(student, teacher) is overlapping_sites(student, teacher)
    other = grid((72, 72), (4, 8), Priors.square(6))
    assert overlapping_sites(student, other) is not overlapping_sites(student, teacher)


def test_a_location_asks_the_teachers_anchor_of_highest_ranked_score():
    nine = grid((16, 16), (8,), NINE)
    teacher = outputs(nine, images=1)
    teacher.logits_BAC.fill_(-3.0)
    teacher.logits_BAC[0, 9 + 4, 1] = 2.0
    teacher.logits_BAC[0, 27 + 7, 2] = 1.0
    teacher.logits_BAC[0, 27 + 2, 0] = 5.0  # a class that the student does not know
    found = best_anchor(teacher, ClassMap(None, torch.tensor([1, 2])))
    assert found.index.tolist() == [[0, 13, 18, 34]]
    picked = found.pick(teacher.boxes_BA4)
    assert torch.equal(picked[0, 1], teacher.boxes_BA4[0, 13])

    centerness = torch.zeros(1, len(nine))
    centerness[0, 13] = -20.0
    centerness[0, 10] = 1.0
    assert best_anchor(replace(teacher, centerness_BA=centerness), SAME_CLASSES).index[0, 1] == 10
    known = torch.ones(1, len(nine), dtype=torch.bool)
    known[0, 27 + 2] = False
    assert best_anchor(replace(teacher, known_BA=known), SAME_CLASSES).index[0, 3] == 34


def test_only_anchors_that_the_teachers_box_overlaps_take_part_or_the_best_one():
    sizes = ((4.0, 4.0), (4.0, 8.0), (1.0, 1.0))
    three, one = (grid((16, 16), (8,), Priors(s)) for s in (sizes, sizes[:1]))
    teacher = outputs(one, images=1)
    teacher.boxes_BA4[0] = three.prior_A4[::3]  # the first anchor's own box everywhere
    teacher.boxes_BA4[0, 2] = torch.tensor([500.0, 500, 510, 510])  # overlaps nothing
    found = overlapping_anchors(three, teacher)
    assert found.index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert found.weight[0].view(4, 3).tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0]]
    teacher.boxes_BA4[0, 0] = torch.tensor([-6.0, -6, 6, 6])  # IoU .14, .07 and .44: the small one is the best
    assert overlapping_anchors(three, teacher).weight[0, :3].tolist() == [0, 0, 1]


@pytest.mark.parametrize("score", ["product", "sqrt"])
def test_the_ranked_score_is_class_probability_times_centerness(score: str):
    logits, centerness = torch.randn(200, 3) * 3, torch.randn(200) * 3
    logits.requires_grad_()
    centerness.requires_grad_()
    found = rank(logits, centerness, score)
    a, b = (v.detach().double().requires_grad_() for v in (logits, centerness))
    p = a.sigmoid() * b.sigmoid()[:, None]
    expected = (p if score == "product" else p.sqrt()).logit()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    ours = torch.autograd.grad(found.sum(), (logits, centerness))
    for one, other in zip(ours, torch.autograd.grad(expected.sum(), (a, b)), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)
    assert rank(logits, None) is logits


@pytest.mark.parametrize("score", ["product", "sqrt"])
def test_extreme_scores_keep_a_finite_value_and_gradient(score: str):
    ends = torch.tensor([-1e4, -100, -20, 0, 20, 100, 1e4])
    logits = ends[:, None].expand(7, 7).reshape(-1, 1).clone().requires_grad_()
    centerness = ends.repeat(7).requires_grad_()
    found = rank(logits, centerness, score)
    found.sum().backward()
    assert found.isfinite().all()
    for value in (logits, centerness):
        assert value.grad.isfinite().all()
        assert (value.grad >= 0).all()
    assert (found.view(7, 7).diff(dim=0) >= 0).all()  # a higher class score never ranks lower
    # Near 1 a probability in fp32 could not tell these apart.
    assert rank(torch.tensor([[18.0]]), torch.tensor([19.0])) > rank(torch.tensor([[18.0]]), torch.tensor([18.0])) + 0.2


def test_classes_are_matched_by_name_and_the_others_take_no_part():
    student = detector("gfl", class_names=("a", "b", "c"))
    teacher = frozen(detector("gfl", 1, class_names=("x", "c", "a", "y")))
    classes = ClassMap.by_name(student.info.class_names, teacher.info.class_names)
    assert classes.unmapped == ("b",)
    step = step_of(student, teacher, [], classes=classes)
    pair = step.matched
    assert torch.equal(pair.student_logits_BAM, step.student.logits_BAC[..., [0, 2]])
    assert torch.equal(pair.teacher_logits_BAM, step.teacher.logits_BAC[..., [2, 1]])
    gradient = torch.autograd.grad(pair.student_ranked_BAM.square().sum(), step.student.logits_BAC)[0]
    assert gradient[..., 1].abs().sum() == 0
    assert gradient[..., 0].abs().sum() > 0
    with pytest.raises(MatchError, match="no name in common"):
        ClassMap.by_name(("a",), ("b",))


def test_sites_that_a_kept_teacher_does_not_know_take_no_part():
    student = detector("gfl")
    step = step_of(student, frozen(student), [])
    known = torch.zeros(step.student.logits_BAC.shape[:2], dtype=torch.bool)
    known[:, ::3] = True
    pair = type(step.matched)(step.student, replace(step.teacher, known_BA=known), SAME_CLASSES, step.assigned)
    assert torch.equal(pair.weight_BA, known.float())


def test_distances_are_compared_only_between_sites_of_one_place_and_stride():
    student, teacher = detector("gfl", strides=(8, 16, 32)), frozen(detector("gfl", 1, strides=(16, 32, 64)))
    step = step_of(student, teacher, [])
    same, pair = step.matched.same_place_A, step.matched
    assert same is not None
    on = step.student.grid.levels[0].stop
    assert same[:on].sum() == 0
    assert same[on:].all()
    assert torch.equal(pair.teacher_dist_BA4R[:, on:], step.teacher.dist_BA4R[:, : len(same) - on])
