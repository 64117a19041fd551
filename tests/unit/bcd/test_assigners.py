"""FCOS and max-IoU assignment equal their papers written out for one image and one box at a time."""

from __future__ import annotations

import pytest
import torch

from bcd import boxes as B
from bcd.assign import common
from bcd.assign.atss import assign_atss
from bcd.assign.common import sites_inside
from bcd.assign.fcos import assign_fcos
from bcd.assign.max_iou import assign_max_iou
from bcd.models.sites import Priors, site_grid
from bcd.types import SiteGrid, Targets
from tests.unit.bcd.test_assign import random_targets

CPU, SHAPES, STRIDES = torch.device("cpu"), [(16, 20), (8, 10), (4, 5)], (8, 16, 32)
POINTS = site_grid(SHAPES, STRIDES, CPU, Priors.square(8.0, 0.5))
ANCHORS = site_grid(SHAPES, STRIDES, CPU, Priors(((2.0, 4.0), (4.0, 4.0), (4.0, 2.0), (5.0, 5.0))))
ASSIGNERS = {
    "atss": (lambda t: assign_atss(ANCHORS, t), ANCHORS),
    "fcos": (lambda t: assign_fcos(POINTS, t), POINTS),
    "max_iou": (lambda t: assign_max_iou(ANCHORS, t), ANCHORS),
}


def fcos_by_hand(grid: SiteGrid, boxes: torch.Tensor, inside: torch.Tensor, reach: float, radius: float) -> list[int]:
    found = []
    for a in range(len(grid)):
        x, y = grid.centre_A2[a].tolist()
        stride, level = grid.stride_A[a].item(), int(grid.level_A[a])
        low = -1 if level == 0 else reach * stride / 2
        high = float("inf") if level == len(grid.levels) - 1 else reach * stride
        claims = []
        for g, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            far = max(x - x0, y - y0, x1 - x, y1 - y)
            if radius:  # the box of the centre, cut to the true box
                cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
                near = min(
                    x - max(cx - radius * stride, x0), min(cx + radius * stride, x1) - x,
                    y - max(cy - radius * stride, y0), min(cy + radius * stride, y1) - y,
                )  # fmt: skip
            else:
                near = min(x - x0, y - y0, x1 - x, y1 - y)
            if near > 0 and low <= far <= high and inside[a]:
                claims.append(((x1 - x0) * (y1 - y0), g))
        found.append(min(claims)[1] if claims else -1)
    return found


def max_iou_by_hand(grid: SiteGrid, boxes: torch.Tensor, inside: torch.Tensor) -> list[int]:
    """Box index, -1 for background, -2 for ignored."""
    found = []
    overlap = B.iou(boxes[:, None], grid.prior_A4).tolist()
    for a in range(len(grid)):
        best = max(((row[a], -g) for g, row in enumerate(overlap)), default=(-1.0, 0)) if inside[a] else (-1.0, 0)
        found.append(-best[1] if best[0] >= 0.5 else -1 if best[0] < 0.4 else -2)
    for g, row in enumerate(overlap):
        top = max(value for value, ok in zip(row, inside, strict=True) if ok)
        for a, value in enumerate(row):
            if inside[a] and value == top and top > 0:
                found[a] = g
    return found


@pytest.mark.parametrize("radius", [1.5, 0.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_points_are_assigned_as_the_paper_says(seed: int, radius: float):
    targets = random_targets([5, 0, 9], [(128, 160), (128, 160), (100, 90)], seed)
    box_BA, positive_BA = assign_fcos(POINTS, targets, 2.0, radius)
    assert positive_BA.any()
    for i, inside in enumerate(sites_inside(POINTS, targets.sizes_B2)):
        expected = fcos_by_hand(POINTS, targets.boxes_BG4[i][targets.valid_BG[i]], inside, 2.0, radius)
        assert torch.where(positive_BA[i], box_BA[i], -1).tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_anchors_are_assigned_by_their_highest_overlap(seed: int):
    targets = random_targets([5, 0, 9], [(128, 160), (128, 160), (100, 90)], seed)
    box_BA, positive_BA, ignored_BA = assign_max_iou(ANCHORS, targets)
    assert ignored_BA.any()
    for i, inside in enumerate(sites_inside(ANCHORS, targets.sizes_B2)):
        expected = max_iou_by_hand(ANCHORS, targets.boxes_BG4[i][targets.valid_BG[i]], inside)
        found = torch.where(positive_BA[i], box_BA[i], torch.where(ignored_BA[i], -2, -1)).tolist()
        assert found == expected


def test_every_box_that_an_anchor_touches_gets_one_and_no_other():
    boxes = torch.tensor([[[3.0, 3.0, 3.1, 3.1], [10.0, 10.0, 12.0, 90.0], [500.0, 500.0, 600.0, 600.0]]])
    targets = Targets(boxes, torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool),
                      torch.tensor([[128, 160]]))  # fmt: skip
    box_BA, positive_BA, _ = assign_max_iou(ANCHORS, targets)
    found = set(box_BA[positive_BA].tolist())
    assert found == {0, 1}  # the third lies outside: MMDetection would give it every anchor
    assert positive_BA.sum() < len(ANCHORS) / 20


@pytest.mark.parametrize("name", ASSIGNERS)
def test_blocks_of_boxes_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch):
    assign, grid = ASSIGNERS[name]
    targets = random_targets([40, 25], [(128, 160), (128, 160)], 2)
    whole = assign(targets)
    monkeypatch.setattr(common, "CPU_PAIRS", 7 * 2 * len(grid))
    assert len(common.box_blocks(2, 40, len(grid), CPU)) == 6
    for one, other in zip(whole, assign(targets), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ASSIGNERS)
def test_padding_boxes_and_the_order_of_images_change_nothing(name: str):
    assign, _ = ASSIGNERS[name]
    targets = random_targets([3, 7], [(128, 160), (64, 160)], 1)
    box_BA, *masks = assign(targets)
    more = Targets(
        torch.cat([targets.boxes_BG4, torch.full((2, 4, 4), 50.0)], 1),
        torch.cat([targets.labels_BG, torch.zeros(2, 4, dtype=torch.long)], 1),
        torch.cat([targets.valid_BG, torch.zeros(2, 4, dtype=torch.bool)], 1),
        targets.sizes_B2,
    )
    padded_box_BA, *padded = assign(more)
    swap = Targets(*(t.flip(0) for t in (targets.boxes_BG4, targets.labels_BG, targets.valid_BG, targets.sizes_B2)))
    _, *swapped = assign(swap)
    for mask, with_padding, other in zip(masks, padded, swapped, strict=True):
        assert torch.equal(mask, with_padding)
        assert torch.equal(mask, other.flip(0))
    assert torch.equal(box_BA[masks[0]], padded_box_BA[masks[0]])


@pytest.mark.parametrize("name", ASSIGNERS)
def test_a_batch_without_any_box_has_no_positive(name: str):
    assign, _ = ASSIGNERS[name]
    none = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool),
                   torch.tensor([[128, 160]] * 2))  # fmt: skip
    for targets in (none, random_targets([0, 0], [(128, 160)] * 2, 0)):
        assert not any(mask.any() for mask in assign(targets)[1:])


def test_a_cell_that_begins_inside_the_image_takes_part_wherever_its_centre_lies():
    sizes = torch.tensor([[20, 40]])
    corner = site_grid(SHAPES, STRIDES, CPU, Priors.square(8.0))
    assert torch.equal(sites_inside(POINTS, sizes), sites_inside(corner, sizes))
    assert sites_inside(POINTS, sizes).sum() == 3 * 5 + 2 * 3 + 1 * 2


def test_a_thousand_boxes_take_memory_that_is_linear_in_sites():
    from bcd.cost import StorageCounter

    grid = site_grid([(32, 32), (16, 16)], (8, 16), CPU)
    peaks = {}
    for count in (100, 1000):
        targets = random_targets([count], [(256, 256)], 0)
        for name, assign in (("fcos", assign_fcos), ("max_iou", assign_max_iou), ("atss", assign_atss)):
            with pytest.MonkeyPatch.context() as patch, StorageCounter() as counter:
                patch.setattr(common, "CPU_PAIRS", 50 * len(grid))
                assign(grid, targets)
            peaks[name, count] = counter.peak
    for name in ("fcos", "max_iou", "atss"):
        assert peaks[name, 1000] < 1.5 * peaks[name, 100], peaks
