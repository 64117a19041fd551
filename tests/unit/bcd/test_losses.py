"""Losses against the official isolated cases, by finite differences in float64, and by their properties."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from bcd import boxes as B
from bcd.losses import (
    binary_classification_distillation,
    binary_distillation_sum,
    distribution_focal,
    giou_loss,
    iou_localization_distillation,
    quality_focal,
)
from tests.helpers.golden import golden_arrays

CASES = {key: torch.from_numpy(value) for key, value in golden_arrays("bckd_loss_cases.npz").items()}


def case(name: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    found = {key.split("/")[1]: value for key, value in CASES.items() if key.startswith(name + "/")}
    return {key: value.clone().to(dtype) if value.is_floating_point() else value for key, value in found.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["c_1x1", "c_5x3", "c_5x3_w", "c_64x80", "c_equal", "c_beta2"])
def test_classification_distillation_equals_the_official_cases(name: str, dtype: torch.dtype):
    c = case(name, dtype)
    student = c["student"].requires_grad_()
    avg = c["avg_factor"].item()
    loss = binary_classification_distillation(
        student, c["teacher"], c.get("weight"), None if avg < 0 else avg, beta=c["beta"].item()
    )
    loss.backward()
    suffix, rel = ("_f64", 1e-12) if dtype == torch.float64 else ("", 1e-5)
    assert loss.item() == pytest.approx(c["loss" + suffix].item(), rel=rel)
    torch.testing.assert_close(student.grad, c["grad" + suffix], rtol=max(rel, 1e-9) * 10, atol=1e-8)


@pytest.mark.parametrize("name", ["g_overlap", "g_random", "g_degenerate"])
def test_localisation_distillation_equals_the_official_cases(name: str):
    c = case(name, torch.float64)
    boxes = c["pred"].requires_grad_()
    loss = 4 * iou_localization_distillation(boxes, c["target"], c["weight"], c["avg_factor"].item())
    loss.backward()
    assert loss.item() == pytest.approx(c["loss_f64"].item(), rel=1e-9)
    torch.testing.assert_close(boxes.grad, c["grad_f64"], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["l_64", "l_equal"])
def test_the_localisation_branch_from_raw_logits_equals_the_official_cases(name: str):
    c = case(name, torch.float64)
    raw = c["reg_student"].requires_grad_()
    bins = torch.arange(17, dtype=torch.float64)

    def decode(logits: torch.Tensor) -> torch.Tensor:
        distance = logits.unflatten(1, (4, 17)).softmax(-1) @ bins
        return B.from_distances(c["centers_px"] / c["stride"], distance)

    _, gap = binary_distillation_sum(c["cls_student"], c["cls_teacher"], None)
    weight = gap * c["label_weight"]
    loss = 4 * iou_localization_distillation(decode(raw), decode(c["reg_teacher"]), weight, c["avg_factor"].item())
    loss.backward()
    torch.testing.assert_close(weight, c["weight_f64"])
    assert loss.item() == pytest.approx(c["loss_f64"].item(), rel=1e-9)
    torch.testing.assert_close(raw.grad, c["grad_f64"], rtol=1e-7, atol=1e-10)


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("beta", [0, 0.5, 1.0, 1.5, 2.0])
def test_classification_distillation_has_the_gradient_of_its_value(beta: float):
    student, teacher, weight = double(7, 5).requires_grad_(), double(7, 5, seed=1), double(7, seed=2).abs()
    assert gradcheck(lambda s: binary_classification_distillation(s, teacher, weight, 3.0, beta), (student,))


def test_quality_focal_has_the_gradient_of_its_value():
    labels = torch.tensor([0, 4, 5, 5, 2, 5])  # 5 is background
    quality, weight = double(6).sigmoid(), torch.tensor([1, 1, 1, 0, 1, 1.0], dtype=torch.float64)
    logits = double(6, 5, seed=3).requires_grad_()
    assert gradcheck(lambda z: quality_focal(z, labels, quality, weight), (logits,))


def test_quality_focal_equals_its_definition():
    logits, labels, quality = double(6, 5, seed=3), torch.tensor([0, 4, 5, 5, 2, 5]), double(6).sigmoid()
    target = torch.zeros(6, 5, dtype=torch.float64)
    for row, label in enumerate(labels.tolist()):
        if label < 5:
            target[row, label] = quality[row]
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    expected = ((target - logits.sigmoid()) ** 2 * bce).sum()
    torch.testing.assert_close(quality_focal(logits, labels, quality, torch.ones(6, dtype=torch.float64)), expected)


def test_distribution_focal_is_least_when_both_bins_share_the_mass_as_the_target_does():
    target = torch.tensor([2.25], dtype=torch.float64)
    best = torch.full((1, 6), -30.0, dtype=torch.float64)
    best[0, 2], best[0, 3] = torch.tensor(0.75).log(), torch.tensor(0.25).log()
    least = distribution_focal(best, target)
    for seed in range(5):
        assert distribution_focal(double(1, 6, seed=seed), target) > least


def test_identical_teacher_and_student_give_zero_loss_and_zero_gradient():
    logits = double(9, 4).requires_grad_()
    loss = binary_classification_distillation(logits, logits.detach().clone())
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0
    boxes = torch.tensor([[0.0, 0, 2, 3], [1, 1, 4, 5]])
    assert iou_localization_distillation(boxes, boxes).item() == pytest.approx(0, abs=1e-6)


def test_distillation_does_not_depend_on_the_order_of_sites_or_classes():
    student, teacher = double(9, 4), double(9, 4, seed=1)
    rows, columns = torch.randperm(9), torch.randperm(4)
    expected = binary_classification_distillation(student, teacher)
    torch.testing.assert_close(binary_classification_distillation(student[rows], teacher[rows]), expected)
    torch.testing.assert_close(binary_classification_distillation(student[:, columns], teacher[:, columns]), expected)


def test_extreme_logits_stay_finite():
    student = torch.tensor([[-1e4, 1e4, 0.0], [80.0, -80.0, 1e4]]).requires_grad_()
    loss = binary_classification_distillation(student, -student.detach())
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_wrong_shapes_and_values_are_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        binary_classification_distillation(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="beta"):
        binary_classification_distillation(torch.zeros(2, 3), torch.zeros(2, 3), beta=-1)
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        iou_localization_distillation(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        iou_localization_distillation(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match="kind"):
        iou_localization_distillation(torch.zeros(2, 4), torch.zeros(2, 4), kind="l2")


@pytest.mark.parametrize("shape", [(4, 1), (4, 4), (1,), (5,), ()])
def test_weights_that_would_broadcast_are_refused(shape: tuple[int, ...]):
    same = torch.zeros(4, 4)
    for loss in (binary_classification_distillation, iou_localization_distillation):
        with pytest.raises(ValueError, match=r"weight must be a tensor of shape \(4,\)"):
            loss(same, same, torch.ones(shape), 2.0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64])
def test_weights_of_any_dtype_count(dtype: torch.dtype):
    weight = torch.tensor([1.0, 0, 1])
    student, teacher = double(3, 4).float().requires_grad_(), double(3, 4, seed=1).float().requires_grad_()
    for loss in (binary_classification_distillation, iou_localization_distillation):
        found = loss(student, teacher, weight.to(dtype), torch.tensor(2.0))
        torch.testing.assert_close(found.float(), loss(student, teacher, weight, 2.0))
        assert torch.autograd.grad(found, [student, teacher], allow_unused=True)[1] is None


@pytest.mark.parametrize("beta", [0, 0.5])
def test_below_beta_1_the_gradient_at_equal_scores_is_zero_not_nan(beta: float):
    logits = double(3, 4).requires_grad_()
    binary_classification_distillation(logits, logits.detach().clone(), beta=beta).backward()
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_fp32(dtype: torch.dtype):
    a, b = double(40, 4).to(dtype).requires_grad_(), double(40, 4, seed=1).to(dtype)
    for loss in (binary_classification_distillation, iou_localization_distillation):
        found = loss(a, b, None, 3.0)
        torch.testing.assert_close(found, loss(a.float(), b.float(), None, 3.0))
        assert torch.autograd.grad(found, a)[0].dtype == dtype


def test_no_rows_give_zero():
    empty = torch.zeros(0, 4, requires_grad=True)
    for loss in (binary_classification_distillation, iou_localization_distillation):
        total = loss(empty, empty.detach()) + loss(empty, empty.detach(), torch.zeros(0), torch.tensor(1.0))
        total.backward()
        assert total.item() == 0


def test_the_iou_option_is_the_papers_formula():
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    assert iou_localization_distillation(a, b, kind="iou").item() == pytest.approx(1 - 2 / 6)
    assert giou_loss(a, b).item() == pytest.approx(1 - 2 / 6)
