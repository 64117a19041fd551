"""IoU family, delta code, focal loss and centerness: against torchvision, by finite differences, by properties."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops as ops
from torch.autograd import gradcheck
from torchvision.models.detection._utils import BoxCoder

from bcd import boxes as B
from bcd.losses.detection import box_loss, centerness_target
from bcd.losses.focal import focal


def some_boxes(count: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * 50
    return torch.cat([corner, corner + 2 + 40 * torch.rand(count, 2, generator=generator, dtype=dtype)], dim=1)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("giou", ops.generalized_box_iou_loss),
        ("diou", ops.distance_box_iou_loss),
        ("ciou", ops.complete_box_iou_loss),
    ],
)
def test_box_losses_and_their_gradients_equal_torchvisions(kind: str, theirs):
    a, b = some_boxes(200, 0), some_boxes(200, 1)
    mine, yours = a.clone().requires_grad_(), a.clone().requires_grad_()
    found, expected = box_loss(kind, mine, b), theirs(yours, b)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, yours.grad, rtol=1e-5, atol=1e-7)


def test_iou_and_its_logarithm_equal_torchvisions():
    a, b = some_boxes(100, 2), some_boxes(100, 3)
    expected = ops.box_iou(a, b).diagonal()
    torch.testing.assert_close(box_loss("iou", a, b), 1 - expected)
    torch.testing.assert_close(box_loss("log_iou", a, b), -expected.clamp(min=1e-6).log())


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou", "log_iou"])
def test_equal_boxes_cost_nothing_and_degenerate_ones_no_nan(kind: str):
    boxes = torch.cat([some_boxes(20, 4, torch.float32), torch.tensor([[5.0, 5.0, 5.1, 5.1], [0.0, 3.0, 4000.0, 3.5]])])
    torch.testing.assert_close(box_loss(kind, boxes, boxes), torch.zeros(22), atol=1e-5, rtol=0)
    points = torch.tensor([[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 1.0, 9.0]], requires_grad=True)
    for other in (points.detach(), points.detach().flip(0), some_boxes(3, 5, torch.float32)):
        loss = box_loss(kind, points, other)
        (grad,) = torch.autograd.grad(loss.sum(), points)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_apart_boxes_still_have_a_direction(kind: str):
    a, b = torch.tensor([[0.0, 0.0, 10.0, 10.0]], requires_grad=True), torch.tensor([[30.0, 0.0, 40.0, 10.0]])
    (grad,) = torch.autograd.grad(box_loss(kind, a, b).sum(), a)
    assert grad[0, 0] + grad[0, 2] < 0  # to the right


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="log_iou, iou, giou, diou, ciou, not 'eiou'"):
        box_loss("eiou", some_boxes(1, 0), some_boxes(1, 1))


def test_deltas_equal_torchvisions_and_come_back():
    priors, boxes = some_boxes(50, 6), some_boxes(50, 7)
    stds = (0.1, 0.1, 0.2, 0.2)
    coder = BoxCoder(weights=tuple(1 / s for s in stds))
    deltas = B.to_deltas(priors, boxes, stds=stds)
    torch.testing.assert_close(deltas, coder.encode_single(boxes, priors))
    torch.testing.assert_close(B.from_deltas(priors, deltas, stds=stds), coder.decode_single(deltas, priors))
    torch.testing.assert_close(B.from_deltas(priors, deltas, stds=stds), boxes)
    means = (0.1, -0.2, 0.3, 0.0)
    torch.testing.assert_close(B.from_deltas(priors, B.to_deltas(priors, boxes, means, stds), means, stds), boxes)


def test_no_delta_overflows_and_no_box_has_an_endless_code():
    priors = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
    wide = B.from_deltas(priors, torch.tensor([[0.0, 0.0, 1e4, -1e4]]))
    torch.testing.assert_close(wide, torch.tensor([[-984.0, 15.744, 1016.0, 16.256]]))
    assert torch.isfinite(B.to_deltas(priors, torch.tensor([[5.0, 5.0, 5.0, 5.0]]))).all()


@pytest.mark.parametrize("alpha", [0.25, 0.6])
@pytest.mark.parametrize("gamma", [2.0, 1.5, 0.0])
def test_focal_loss_equals_torchvisions(alpha: float, gamma: float):
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(60, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 8, (60,), generator=generator)  # 7 is background
    weight = torch.randint(0, 2, (60,), generator=generator).double() * 0.7
    truth = torch.nn.functional.one_hot(labels, 8)[:, :7].double()
    mine, yours = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = focal(mine, labels, weight, alpha, gamma)
    expected = (ops.sigmoid_focal_loss(yours, truth, alpha, gamma) * weight[:, None]).sum()
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(mine.grad, yours.grad)


def test_focal_gradient_equals_finite_differences():
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels, weight = torch.tensor([0, 3, 2, 3, 1, 0]), torch.rand(6, dtype=torch.float64)
    assert gradcheck(lambda z: focal(z, labels, weight), (logits,))


def test_focal_loss_stays_finite_at_extreme_logits():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [200.0, 0.0]], requires_grad=True)
    loss = focal(logits, torch.tensor([1, 2, 0]), torch.ones(3))
    (grad,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert torch.isfinite(grad).all()
    assert focal(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), torch.zeros(0)).item() == 0


def test_centerness_is_one_in_the_middle_and_nothing_outside():
    distances = torch.tensor([[4.0, 4.0, 4.0, 4.0], [1.0, 2.0, 4.0, 2.0], [-1.0, 3.0, 9.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(centerness_target(distances), torch.tensor([1.0, 0.5, 0.0, 0.0]))
