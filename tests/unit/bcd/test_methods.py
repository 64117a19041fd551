"""Every distillation method against its formula written out, and the properties that all of them share."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from bcd import boxes as B
from bcd.assign.atss import atss_thresholds
from bcd.engine.task import DetectionTask
from bcd.losses import binary_distillation_sum, sigmoid_kl_sum, softmax_kl
from bcd.losses.feature import standardise
from bcd.methods import Step
from bcd.methods.crosskd import CrossKd
from bcd.methods.fgd import GlobalContext, attention, masks
from bcd.methods.gi import suppress
from bcd.methods.ld import valuable_region
from bcd.methods.match import ClassMap
from bcd.methods.teacher import Teacher
from bcd.models.detector import Detector
from bcd.types import Targets
from tests.helpers.pairs import FAMILIES, METHOD_TYPES, detector, frozen, images, method, step_of, targets

CPU = torch.device("cpu")
FEATURE_METHODS = ("pkd", "fgd", "fitnet", "fine_grained", "gi")


def fits(kind: str, student: str, teacher: str) -> bool:
    return kind != "ld" or student == teacher == "gfl"


def terms_of(kind: str, student: Detector, teacher: Detector, **settings: Any) -> tuple[dict[str, Tensor], Step]:
    module = method(kind, student, teacher, **settings)
    step = step_of(student, teacher, [module])
    return module(step), step


# --- what all methods share -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_identical_teacher_and_student_give_zero_loss_and_zero_gradient(family: str):
    student = detector(family)
    teacher = frozen(student)
    modules = [method(kind, student, teacher) for kind in METHOD_TYPES if fits(kind, family, family)]
    step = step_of(student, teacher, modules)
    for module in modules:
        student.zero_grad()
        terms = module(step)
        assert terms
        torch.stack(list(terms.values())).sum().backward(retain_graph=True)
        gradients = [p.grad.abs().max() for p in student.parameters() if p.grad is not None]
        assert gradients
        if module.spec.type == "crosskd":  # boxes meet where IoU has a corner; rounding decides on which side
            assert all(value.abs() < 1e-6 for value in terms.values())
            assert max(gradients) < 1e-6
        else:
            assert all(value == 0 for value in terms.values()), terms
            assert max(gradients) == 0


@pytest.mark.parametrize(("ours", "theirs"), [(a, b) for a in FAMILIES for b in FAMILIES])
def test_every_method_gives_named_terms_for_every_pair_that_has_what_it_needs(ours: str, theirs: str):
    student, teacher = detector(ours), frozen(detector(theirs, 1, fpn_channels=24, stacked_convs=1))
    modules = [method(kind, student, teacher) for kind in METHOD_TYPES if fits(kind, ours, theirs)]
    step = step_of(student, teacher, modules)
    for module in modules:
        student.zero_grad()
        terms = module(step)
        assert terms
        for name, value in terms.items():
            assert name.startswith(module.spec.type + "_")
            assert value.shape == ()
            assert value.dtype == torch.float32
            assert value.isfinite()
            assert value > 0, name
        torch.stack(list(terms.values())).sum().backward(retain_graph=True)
        grads = [p.grad for p in student.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in grads)
        assert any(g.abs().sum() > 0 for g in grads)
    assert not any(value.requires_grad for value in (step.teacher.logits_BAC, *step.teacher.features))


class NoSync(TorchDispatchMode):
    """Refuses what makes the host wait for the device: reading a value, shapes that depend on values, and tensors
    made from Python's numbers (a copy to the device)."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        waits = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "lift_fresh"}
        masked = name in ("index", "index_put", "index_put_") and any(
            isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        allowed = name not in waits and not masked
        assert allowed, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


PAIRS = [("gfl", "gfl"), ("fcos", "retinanet"), ("retinanet", "atss")]


@pytest.mark.parametrize(
    ("kind", "ours", "theirs"), [(kind, *pair) for kind in METHOD_TYPES for pair in PAIRS if fits(kind, *pair)]
)
def test_no_method_waits_for_the_device(kind: str, ours: str, theirs: str):
    student, teacher = detector(ours), frozen(detector(theirs, 1, fpn_channels=24))
    if kind != "crosskd":
        teacher = frozen(detector(theirs, 1, fpn_channels=24, strides=(16, 32)))  # unlike grids too
    if kind == "ld":
        teacher = frozen(detector(theirs, 1))
    module = method(kind, student, teacher)
    step = step_of(student, teacher, [module])
    with NoSync():
        torch.stack(list(module(step).values())).sum().backward()


def test_the_watch_for_waiting_sees_what_it_must():
    for wait in (
        lambda t: t.sum().item(),
        lambda t: t[t > 0],
        lambda t: t.nonzero(),
        lambda t: bool(t.sum()),
        lambda t: t.new_tensor([1, 2]),
    ):
        with pytest.raises(AssertionError, match="waits"), NoSync():
            wait(torch.ones(3))


@pytest.mark.parametrize("kind", METHOD_TYPES)
def test_images_without_boxes_with_a_thousand_and_with_tiny_ones_give_finite_terms(kind: str):
    student, teacher = detector("gfl"), frozen(detector("gfl", 1, fpn_channels=24))
    module = method(kind, student, teacher)
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(1000, 2, generator=g) * 50
    many = torch.cat([corner, corner + torch.rand(1000, 2, generator=g) * 14], dim=1)
    for boxes in ([[], []], [[], [[3.0, 3, 3.1, 3.1]]], [many.tolist(), []]):
        total = torch.stack(list(module(step_of(student, teacher, [module], truth=targets(boxes))).values())).sum()
        total.backward()
        assert total.isfinite()
    assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", METHOD_TYPES)
def test_weight_zero_trains_the_same_bits_as_no_method(kind: str):
    def train(methods: list[dict[str, Any]]) -> Detector:
        student = detector("gfl", 3)
        teacher = detector("gfl", 1, fpn_channels=24)
        built = [method(kind, student, teacher, **settings) for settings in methods]
        task = DetectionTask(student, Teacher(teacher, student, CPU), built)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
        batch = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)  # from the global generator, which is watched
        for _ in range(2):
            optimizer.zero_grad()
            task(batch, targets(), 0.5, nullcontext())["loss"].backward()
            optimizer.step()
        return student

    torch.manual_seed(0)
    plain, off, on = train([]), train([{"weight": 0}]), train([{}])
    for name, value in plain.state_dict().items():
        assert torch.equal(value, off.state_dict()[name]), name
    assert any(not torch.equal(value, on.state_dict()[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("kind", METHOD_TYPES)
def test_a_method_leaves_the_global_generator_alone_and_starts_the_same_every_time(kind: str):
    student, teacher = detector("gfl"), frozen(detector("gfl", 1, fpn_channels=24))
    before = torch.get_rng_state()
    first, second = method(kind, student, teacher), method(kind, student, teacher)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    owns = len(list(first.parameters())) > 0
    assert owns == (kind in FEATURE_METHODS or kind == "crosskd")
    same_width = method(kind, student, frozen(detector("gfl", 1)))
    assert (len(list(same_width.parameters())) > 0) == (kind == "fgd")


def test_a_term_whose_weight_is_zero_is_left_out():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    assert set(terms_of("bckd", student, teacher, cls_weight=0)[0]) == {"bckd_loc"}
    assert set(terms_of("ld", student, teacher, vlr_weight=0)[0]) == {"ld_main"}
    assert set(terms_of("fgd", student, teacher, relation_weight=0, background_weight=0)[0]) == {
        "fgd_foreground", "fgd_attention",
    }  # fmt: skip
    assert set(terms_of("crosskd", student, teacher, loc_weight=0)[0]) == {"crosskd_cls"}


def test_methods_listed_twice_with_other_settings_and_depths_add_up():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    settings = [{"depth": 2}, {"depth": 0, "cls_weight": 3.0}, {"depth": 1}]
    built = [method("crosskd", student, teacher, **s) for s in settings]
    batch = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)

    def task(some: list[CrossKd]) -> dict[str, Tensor]:
        return DetectionTask(student, Teacher(teacher, student, CPU), some)(batch, targets(), 0.0, nullcontext())

    alone = [task([one]) for one in built]
    assert len({round(one["crosskd_cls"].item(), 9) for one in alone}) == 3
    together = task(built)
    for name in ("crosskd_cls", "crosskd_loc"):
        torch.testing.assert_close(together[name], sum(one[name] for one in alone))


def test_unlabelled_images_count_with_their_own_weight():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    truth = replace(targets(), distill_B=torch.tensor([1.0, 0.0]), labelled_B=torch.ones(2))
    changed = images().clone()
    changed[1] = torch.randn(3, 64, 64)
    for kind in METHOD_TYPES:
        if kind in ("pkd", "crosskd"):  # their statistics are those of all images
            continue
        module = method(kind, student, teacher)
        a, b = (module(step_of(student, teacher, [module], x, truth)) for x in (images(), changed))
        for name, value in a.items():
            torch.testing.assert_close(value, b[name], rtol=1e-4, atol=1e-8)
        if kind in ("bckd", "sigmoid_kd", "ld", "fgd"):  # sums; the others are means over sites that take part
            double = replace(truth, distill_B=torch.tensor([1.0, 2.0]))
            heavier = module(step_of(student, teacher, [module], changed, double))
            assert all(heavier[name] > value for name, value in b.items()), kind


# --- formulas written out ---------------------------------------------------------------------------------------


def p(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def bce(z: float, q: float) -> float:
    return -(q * math.log(p(z)) + (1 - q) * math.log(1 - p(z)))


def test_softmax_distillation_equals_its_definition_and_has_its_gradient():
    g = torch.Generator().manual_seed(0)
    s, t = (torch.randn(5, 4, 3, dtype=torch.float64, generator=g) * 3 for _ in range(2))
    found = softmax_kl(s, t, 2.0)
    for i in range(5):
        for j in range(4):
            q = [math.exp(v / 2) for v in t[i, j].tolist()]
            r = [math.exp(v / 2) for v in s[i, j].tolist()]
            expected = 4 * sum(a / sum(q) * math.log((a / sum(q)) / (b / sum(r))) for a, b in zip(q, r, strict=True))
            assert found[i, j].item() == pytest.approx(expected)
    assert gradcheck(lambda z: softmax_kl(z, t, 2.0), (s.requires_grad_(),))
    with pytest.raises(ValueError, match="temperature"):
        softmax_kl(s, t, 0)
    with pytest.raises(ValueError, match="shape"):
        softmax_kl(s, t[:1])


def test_sigmoid_distillation_is_bce_less_the_teachers_entropy():
    g = torch.Generator().manual_seed(0)
    s, t = (torch.randn(6, 3, dtype=torch.float64, generator=g) * 3 for _ in range(2))
    weight = torch.rand(6, dtype=torch.float64, generator=g)
    expected = sum(
        weight[i].item() * (bce(s[i, j].item(), q := p(t[i, j].item())) - bce(t[i, j].item(), q))
        for i in range(6)
        for j in range(3)
    )
    assert sigmoid_kl_sum(s, t, weight).item() == pytest.approx(expected)
    assert gradcheck(lambda z: sigmoid_kl_sum(z, t, weight), (s.requires_grad_(),))
    plain = torch.autograd.grad(binary_distillation_sum(s, t, weight, 0.0)[0], s)[0]
    torch.testing.assert_close(torch.autograd.grad(sigmoid_kl_sum(s, t, weight), s)[0], plain)
    ends = torch.tensor([[-1e4, 1e4, 100.0]], requires_grad=True)
    total = sigmoid_kl_sum(ends, -ends.detach(), torch.ones(1))
    total.backward()
    assert total.isfinite()
    assert ends.grad.isfinite().all()


def test_softmax_kd_is_the_mean_over_the_positives_of_each_level():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    terms, step = terms_of("softmax_kd", student, teacher)
    expected, positive = 0.0, step.assigned.positive_BA
    assert positive.any()
    for level in step.student.grid.levels:
        rows = [
            4 * sum(b.exp() * (b - a) for a, b in zip((x / 2).log_softmax(0), (y / 2).log_softmax(0), strict=True)) / 3
            for x, y in zip(
                step.student.logits_BAC[:, level][positive[:, level]],
                step.teacher.logits_BAC[:, level][positive[:, level]],
                strict=True,
            )
        ]
        expected += sum(rows) / len(rows) if rows else 0
    torch.testing.assert_close(terms["softmax_kd_cls"], 10 * expected)
    assert method("softmax_kd", detector("retinanet"), teacher).temperature == 8
    assert method("softmax_kd", detector("retinanet"), teacher, temperature=3).temperature == 3


@pytest.mark.parametrize("settings", [{}, {"loss": "bce"}, {"temperature": 2.0}])
def test_sigmoid_kd_sums_over_all_sites_and_classes(settings: dict[str, Any]):
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    terms, step = terms_of("sigmoid_kd", student, teacher, **settings)
    t = settings.get("temperature", 1.0)
    a, b = step.student.logits_BAC / t, step.teacher.logits_BAC / t
    q = b.sigmoid()
    value = F.binary_cross_entropy_with_logits(a, q, reduction="none")
    if settings.get("loss") != "bce":
        value = value - F.binary_cross_entropy_with_logits(b, q, reduction="none")
    expected = t**2 * (value.sum(-1) * step.assigned.site_weight_BA).sum() / step.assigned.positives
    torch.testing.assert_close(terms["sigmoid_kd_cls"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [("atss", "fcos"), ("gfl", "atss"), ("fcos", "gfl")])
@pytest.mark.parametrize("scores", ["ranked", "class"])
def test_bckd_compares_scores_as_they_are_ranked(ours: str, theirs: str, scores: str):
    terms, step = terms_of("bckd", detector(ours), frozen(detector(theirs, 1)), scores=scores, iou="ciou")
    found = []
    for outputs in (step.student, step.teacher):
        score = outputs.logits_BAC.detach().double().sigmoid()
        if scores == "ranked" and outputs.centerness_BA is not None:
            score = score * outputs.centerness_BA.detach().double().sigmoid()[..., None]
        found.append(score)
    a, b = found
    gap, weight = (b - a).abs(), step.assigned.site_weight_BA
    cls = (gap * F.binary_cross_entropy(a, b, reduction="none")).sum(-1)
    divisor = step.assigned.distill_divisor
    torch.testing.assert_close(terms["bckd_cls"].double(), (cls * weight).sum() / divisor, rtol=1e-4, atol=1e-7)
    loc = 1 - B.ciou(step.student.boxes_BA4, step.teacher.boxes_BA4)
    torch.testing.assert_close(
        terms["bckd_loc"].double(), 4 * (loc * gap.amax(-1) * weight).sum() / divisor, rtol=1e-3, atol=1e-6
    )


def side_kl(step: Step, image: int, site: int, temperature: float) -> float:
    """Sum over the four sides of T^2 times the mean over bins of the KL."""
    total = 0.0
    for side in range(4):
        a = (step.student.dist_BA4R[image, site, side] / temperature).log_softmax(0)
        b = (step.teacher.dist_BA4R[image, site, side] / temperature).log_softmax(0)
        total += temperature**2 * (b.exp() * (b - a)).mean().item()
    return total


def test_ld_sums_over_positives_and_over_the_valuable_region():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    terms, step = terms_of("ld", student, teacher)
    grid, truth = step.student.grid, step.targets
    main = vlr = 0.0
    thresholds = atss_thresholds(grid, truth)
    region = torch.zeros(2, len(grid))
    for image in range(2):
        for site in range(len(grid)):
            if step.assigned.positive_BA[image, site]:
                quality = step.student.logits_BAC[image, site].sigmoid().max().item()
                main += quality * side_kl(step, image, site, 10.0)
            for box in range(truth.valid_BG.shape[1]):
                prior, gt, top = grid.prior_A4[site], truth.boxes_BG4[image, box], thresholds[image, box]
                if truth.valid_BG[image, box] and 0.25 * top <= B.diou(prior, gt) < top:
                    region[image, site] = max(region[image, site], B.iou(prior, gt))
            if region[image, site] > 0:
                vlr += region[image, site].item() * side_kl(step, image, site, 10.0)
    assert (region > 0).sum() > 5
    torch.testing.assert_close(valuable_region(grid, truth, 0.25), region)
    assert terms["ld_main"].item() == pytest.approx(0.25 * main / 4, rel=1e-4)
    assert terms["ld_vlr"].item() == pytest.approx(0.25 * vlr / 16, rel=1e-4)


def test_the_valuable_region_does_not_depend_on_how_boxes_are_taken(monkeypatch: pytest.MonkeyPatch):
    step = step_of(detector("gfl"), frozen(detector("gfl")), [])
    whole = valuable_region(step.student.grid, step.targets, 0.25)
    monkeypatch.setattr("bcd.assign.common.CPU_PAIRS", 1)
    assert torch.equal(whole, valuable_region(step.student.grid, step.targets, 0.25))


def test_pkd_is_one_less_pearsons_r_of_each_channel():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    terms, step = terms_of("pkd", student, teacher)
    expected = 0.0
    for a, b in zip(step.student.features, step.teacher.features, strict=True):
        n, r = a[:, 0].numel(), []
        for channel in range(a.shape[1]):
            x, y = (v[:, channel].flatten().double() for v in (a, b))
            r.append(torch.corrcoef(torch.stack([x, y]))[0, 1] * (n - 1) / n)
        # Unbiased deviations make the mean square (n - 1) / n instead of 1.
        expected += (n - 1) / n - sum(r) / len(r)
    torch.testing.assert_close(terms["pkd_features"].double(), 6 * expected, rtol=1e-4, atol=0)
    only = terms_of("pkd", student, teacher, levels=1)[0]["pkd_features"]
    assert 0 < only < terms["pkd_features"]


def test_maps_of_one_value_or_of_constant_channels_have_a_finite_gradient():
    for shape in ((1, 3, 1, 1), (2, 3, 4, 4)):
        maps = torch.full(shape, 2.0, requires_grad=True)
        standardise(maps).square().sum().backward()
        assert maps.grad.isfinite().all()


def masked_mse(step: Step, inside: Any, adapt: Any = lambda x: x) -> float:
    """Sum over levels of the mean over locations (image, y, x) that `inside` says of the mean square over channels."""
    grid, total = step.student.grid, 0.0
    for level, (a, b) in enumerate(zip(step.student.features, step.teacher.features, strict=True)):
        found = [
            (a[i, :, y, x] - b[i, :, y, x]).square().mean().item()
            for i in range(a.shape[0])
            for y in range(a.shape[2])
            for x in range(a.shape[3])
            if inside(i, level, y, x, grid.strides[level])
        ]
        total += sum(found) / len(found) if found else 0.0
    return total


def test_fitnet_imitates_locations_inside_boxes_on_levels_with_positives():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    terms, step = terms_of("fitnet", student, teacher)
    boxes = {0: [(4, 4, 30, 30), (20, 24, 60, 50)], 1: [(10, 10, 40, 44)]}
    positive = [step.assigned.positive_BA[:, level].any().item() for level in step.student.grid.levels]

    def inside(i: int, level: int, y: int, x: int, s: int) -> bool:
        return any(x0 < x * s < x1 and y0 < y * s < y1 for x0, y0, x1, y1 in boxes[i])

    gated = masked_mse(step, lambda i, level, y, x, s: positive[level] and inside(i, level, y, x, s))
    assert terms["fitnet_features"].item() == pytest.approx(2 * gated, rel=1e-5)
    free = terms_of("fitnet", student, teacher, level_gate=False)[0]["fitnet_features"].item()
    assert free == pytest.approx(2 * masked_mse(step, inside), rel=1e-5)


@pytest.mark.parametrize("family", ["gfl", "retinanet"])
def test_fine_grained_imitates_locations_whose_prior_is_nearly_a_boxs_best(family: str):
    student, teacher = detector(family), frozen(detector(family, 1))
    terms, step = terms_of("fine_grained", student, teacher)
    grid, truth = step.student.grid, step.targets

    def inside(i: int, level: int, y: int, x: int, s: int) -> bool:
        first = grid.levels[level].start + (y * grid.shapes[level][1] + x) * grid.anchors
        for box, valid in zip(truth.boxes_BG4[i], truth.valid_BG[i], strict=True):
            best = B.iou(grid.prior_A4, box).max()
            if valid and (B.iou(grid.prior_A4[first : first + grid.anchors], box) > 0.5 * best).any():
                return True
        return False

    assert terms["fine_grained_features"].item() == pytest.approx(2 * masked_mse(step, inside), rel=1e-5)


def test_gi_imitates_inside_the_boxes_of_greatest_disagreement():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    terms, step = terms_of("gi", student, teacher, instances=3)
    a, b, grid = step.student.logits_BAC.sigmoid(), step.teacher.logits_BAC.sigmoid(), step.student.grid
    kept: dict[int, list[tuple[int, Tensor]]] = {}
    for i in range(2):
        gap, label = (b[i] - a[i]).abs().max(-1)
        boxes = torch.stack(
            [
                step.teacher.boxes_BA4[i, n] if b[i, n, c] > a[i, n, c] else step.student.boxes_BA4[i, n].detach()
                for n, c in enumerate(label.tolist())
            ]
        )
        left, kept[i] = gap.argsort(descending=True).tolist(), []
        while left and len(kept[i]) < 3:
            first = left.pop(0)
            kept[i].append((int(grid.level_A[first]), boxes[first]))
            left = [n for n in left if B.iou(boxes[n], boxes[first]) <= 0.3]

    def inside(i: int, level: int, y: int, x: int, s: int) -> bool:
        return any(of == level and b[0] < x * s < b[2] and b[1] < y * s < b[3] for of, b in kept[i])

    assert terms["gi_features"].item() == pytest.approx(2 * masked_mse(step, inside), rel=1e-4)


def test_suppression_keeps_the_best_and_marks_what_there_was_not():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 1, 1]]])
    index, score = suppress(torch.tensor([[0.5, 0.9, 0.2, 0.0]]), boxes, 4, 0.3)
    assert index[0, :2].tolist() == [1, 2]
    assert score[0].tolist() == pytest.approx([0.9, 0.2, 0, 0])


def test_fgd_masks_have_rows_from_y_and_columns_from_x():
    truth = Targets(
        torch.tensor([[[8.0, 0, 24, 8], [0, 0, 64, 64]], [[0.0, 16, 8, 24], [0, 0, 0, 0]]]),
        torch.zeros(2, 2, dtype=torch.long),
        torch.tensor([[True, False], [True, False]]),
        torch.tensor([[32, 48], [32, 24]]),
    )
    foreground, background = masks(truth, (4, 6), 8)
    expected = torch.zeros(2, 4, 6)
    expected[0, 0:2, 1:4] = 1 / 6  # cells 1 to 3 in x, 0 to 1 in y
    expected[1, 2:4, 0:2] = 1 / 4
    torch.testing.assert_close(foreground, expected)
    assert background[0, 2, 0].item() == pytest.approx(1 / 18)
    assert background[1, :, 3:].sum() == 0  # padding
    torch.testing.assert_close(background.sum((1, 2)), torch.ones(2))
    smaller = Targets(truth.boxes_BG4, truth.labels_BG, torch.tensor([[True, True], [True, False]]), truth.sizes_B2)
    assert masks(smaller, (4, 6), 8)[0][0, 0, 1].item() == pytest.approx(1 / 6)  # the smaller box counts
    assert masks(smaller, (4, 6), 8)[0][0, 3, 5].item() == pytest.approx(1 / 24)


def test_fgd_equals_its_formulas():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    terms, step = terms_of("fgd", student, teacher)
    sums = dict.fromkeys(("foreground", "background", "attention", "relation"), 0.0)
    for level, (a, b) in enumerate(zip(step.student.features, step.teacher.features, strict=True)):
        height, width = a.shape[-2:]
        fore, back = masks(step.targets, (height, width), step.student.grid.strides[level])
        for i in range(2):
            maps = []
            for x in (a[i], b[i]):
                spatial = torch.softmax(x.abs().mean(0).flatten() / 0.5, 0).view(height, width) * height * width
                maps.append((spatial, torch.softmax(x.abs().mean((1, 2)) / 0.5, 0) * x.shape[0]))
            (sa, ca), (sb, cb) = maps
            focal = (a[i] - b[i]).square() * sb * cb[:, None, None]
            sums["foreground"] += (focal * fore[i]).sum().item() / 2
            sums["background"] += (focal * back[i]).sum().item() / 2
            sums["attention"] += ((sa - sb).abs().sum() + (ca - cb).abs().sum()).item() / 2
            sums["relation"] += (a[i] - b[i]).square().sum().item() / 2  # blocks start as the identity
    weights = {"foreground": 1e-3, "background": 5e-4, "attention": 5e-4, "relation": 5e-6}
    for name, weight in weights.items():
        assert terms[f"fgd_{name}"].item() == pytest.approx(weight * sums[name], rel=1e-4), name


def test_a_global_context_block_adds_one_vector_and_both_sides_are_trained():
    block = GlobalContext(8, torch.Generator().manual_seed(0))
    maps = torch.randn(2, 8, 3, 5)
    assert torch.equal(block(maps), maps)
    with torch.no_grad():
        block.outside.weight.normal_()
    added = block(maps) - maps
    assert added.abs().max() > 0.1
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added))
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    module = method("fgd", student, teacher)
    module(step_of(student, teacher, [module]))["fgd_relation"].backward()
    for block in module.relation:
        assert block.outside.weight.grad.abs().sum() > 0
    spatial, channel = attention(maps, 0.5)
    torch.testing.assert_close(spatial.mean((1, 2)), torch.ones(2))
    torch.testing.assert_close(channel.mean(1), torch.ones(2))


CROSS = {
    "gfl": ("kl", 1.0, 4.0),
    "retinanet": ("giou", 1.0, 1.0),
    "atss": ("giou", 1.0, 1.0),
    "fcos": ("iou", 0.4, 0.75),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_crosskd_equals_its_definition_for_every_head(family: str):
    student, teacher = detector("gfl"), frozen(detector(family, 1))
    module = method("crosskd", student, teacher, depth=1)
    step = step_of(student, teacher, [module])
    terms = module(step)
    kind, cls_weight, loc_weight = CROSS[family]
    ours, theirs = step.student.trace_at(1), step.teacher.trace_at(1)
    restyled = []
    for maps, owns in ((ours.cls, theirs.cls), (ours.reg, theirs.reg)):
        levels = []
        for x, y in zip(maps, owns, strict=True):
            mean = [v.mean((0, 2, 3), keepdim=True) for v in (x, y)]
            deviation = [v.std((0, 2, 3), keepdim=True) for v in (x, y)]
            levels.append((x - mean[0]) / (deviation[0] + 1e-6) * deviation[1] + mean[1])
        restyled.append(tuple(levels))
    crossed = teacher.continue_from(type(ours)(*restyled, 1), step.teacher)
    anchors = step.teacher.grid.anchors
    weight = step.assigned.site_weight_BA.repeat_interleave(anchors, 1)
    a, b = crossed.logits_BAC.sigmoid(), step.teacher.logits_BAC.sigmoid()
    cls = ((a - b).abs() * F.binary_cross_entropy(a, b, reduction="none")).sum(-1)
    expected = cls_weight * (cls * weight).sum() / step.assigned.positives
    torch.testing.assert_close(terms["crosskd_cls"], expected, rtol=1e-3, atol=1e-7)
    u = weight * b.amax(-1)
    if kind == "kl":
        log_a, log_b = (v.log_softmax(-1) for v in (crossed.dist_BA4R, step.teacher.dist_BA4R))
        loc = (log_b.exp() * (log_b - log_a)).sum(-1).mean(-1)
    else:
        loc = 1 - getattr(B, kind)(crossed.boxes_BA4, step.teacher.boxes_BA4)
    torch.testing.assert_close(terms["crosskd_loc"], loc_weight * (loc * u).sum() / u.sum(), rtol=1e-3, atol=1e-6)
    assert ("crosskd_ctr" in terms) == (family == "atss")
    if family == "atss":
        c, d = (v.centerness_BA.sigmoid() for v in (crossed, step.teacher))
        kl = d * (d / c).log() + (1 - d) * ((1 - d) / (1 - c)).log()
        torch.testing.assert_close(terms["crosskd_ctr"], (kl * u).sum() / u.sum(), rtol=1e-2, atol=1e-7)


def test_crosskd_teaches_the_pyramid_and_the_towers_up_to_its_depth_only():
    student, teacher = detector("gfl"), frozen(detector("gfl", 1))
    terms, _ = terms_of("crosskd", student, teacher, depth=1)
    (terms["crosskd_cls"] + terms["crosskd_loc"]).backward()
    assert student.head.cls_tower[0].conv.weight.grad.abs().sum() > 0
    assert student.head.reg_tower[0].conv.weight.grad.abs().sum() > 0
    assert student.head.cls_tower[1].conv.weight.grad is None
    assert student.head.cls.weight.grad is None
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_crosskd_takes_shorter_students_and_levels_that_only_the_teacher_has():
    student = detector("gfl", stacked_convs=1, strides=(16,))
    teacher = frozen(detector("gfl", 1, stacked_convs=3, fpn_channels=24))
    terms, step = terms_of("crosskd", student, teacher)
    assert method("crosskd", student, teacher).trace == (1, 3)
    weight = method("crosskd", student, teacher).site_weight(step)
    fine = step.teacher.grid.levels[0].stop
    assert weight[:, :fine].sum() == 0
    assert (weight[:, fine:] == 1).all()
    assert all(value.isfinite() and value > 0 for value in terms.values())


def test_feature_methods_use_the_levels_that_both_have():
    student, teacher = detector("gfl", strides=(8, 16)), frozen(detector("fcos", 1, strides=(16, 32), fpn_channels=24))
    for kind in FEATURE_METHODS:
        module = method(kind, student, teacher)
        assert [pair.level for pair in module.pairs(step_of(student, teacher, [module]))] == [1]


def test_methods_know_only_the_classes_that_both_share():
    """Terms stay as they are when classes are named in another order and the teacher knows more."""
    student = detector("gfl")
    teacher = detector("gfl", 1)
    wide = detector("gfl", 1, class_names=("x", "c", "b", "a"))
    wide.load_state_dict(
        {**wide.state_dict(), **{k: v for k, v in teacher.state_dict().items() if "head.cls." not in k}}
    )
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(wide.head.cls, name)[1:] = getattr(teacher.head.cls, name)[[2, 1, 0]]
    teacher, wide = frozen(teacher), frozen(wide)
    classes = ClassMap.by_name(student.info.class_names, wide.info.class_names)
    for kind in METHOD_TYPES:
        one, other = method(kind, student, teacher), method(kind, student, wide)
        same = one(step_of(student, teacher, [one]))
        found = other(step_of(student, wide, [other], classes=classes))
        for name, value in same.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_fp32_whatever_the_models_precision(family: str):
    student, teacher = detector(family), frozen(detector(family, 1, fpn_channels=24))
    modules = [method(kind, student, teacher) for kind in METHOD_TYPES if fits(kind, family, family)]
    exact = step_of(student, teacher, modules)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = step_of(student, teacher, modules)
    assert rough.student.logits_BAC.dtype == torch.bfloat16
    for module in modules:
        terms = module(rough)
        torch.stack(list(terms.values())).sum().backward(retain_graph=True)
        for name, value in module(exact).items():
            assert terms[name].dtype == torch.float32
            torch.testing.assert_close(terms[name], value, rtol=0.2, atol=1e-3)
    assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)
