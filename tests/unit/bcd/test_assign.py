"""Batched ATSS equals the algorithm written out for one image and one box at a time."""

from __future__ import annotations

import pytest
import torch

from bcd import boxes as B
from bcd.assign.atss import assign_atss, sites_inside
from bcd.models.sites import site_grid
from bcd.types import SiteGrid, Targets

GRID = site_grid([(16, 20), (8, 10), (4, 5)], (8, 16, 32), torch.device("cpu"))


def random_targets(counts: list[int], sizes: list[tuple[int, int]], seed: int) -> Targets:
    generator = torch.Generator().manual_seed(seed)
    most = max(counts)
    boxes, valid = torch.zeros(len(counts), most, 4), torch.zeros(len(counts), most, dtype=torch.bool)
    for i, (n, (height, width)) in enumerate(zip(counts, sizes, strict=True)):
        corner = torch.rand(n, 2, generator=generator) * torch.tensor([width * 0.7, height * 0.7])
        side = 4 + torch.rand(n, 2, generator=generator) * 60
        boxes[i, :n] = torch.cat([corner, corner + side], dim=1)
        valid[i, :n] = True
    labels = torch.randint(0, 5, (len(counts), most), generator=generator)
    return Targets(boxes, labels, valid, torch.tensor(sizes))


def one_by_one(grid: SiteGrid, boxes: torch.Tensor, inside: torch.Tensor) -> list[int]:
    """Box index of each site, -1 for none, by the text of the paper's algorithm 1."""
    best = [(-1.0, -1)] * len(grid)
    for g, box in enumerate(boxes):
        centre = (box[:2] + box[2:]) / 2
        candidates: list[int] = []
        for level in grid.levels:
            sites = [a for a in range(level.start, level.stop) if inside[a]]
            distance = [((grid.centre_A2[a] - centre) ** 2).sum().sqrt().item() for a in sites]
            candidates += [sites[i] for i in sorted(range(len(sites)), key=distance.__getitem__)[:9]]
        overlap = torch.stack([B.iou(grid.prior_A4[a], box) for a in candidates])
        threshold = overlap.mean() + overlap.std()
        for a, value in zip(candidates, overlap, strict=True):
            near = B.to_distances(grid.centre_A2[a], box).min() > 0.01
            if value >= threshold and near and value.item() > best[a][0]:
                best[a] = (value.item(), g)
    return [g for _, g in best]


@pytest.mark.parametrize("seed", range(6))
def test_batched_assignment_equals_the_paper_written_out(seed: int):
    targets = random_targets([5, 0, 9], [(128, 160), (128, 160), (100, 90)], seed)
    box_BA, positive_BA = assign_atss(GRID, targets)
    inside_BA = sites_inside(GRID, targets.sizes_B2)
    for i in range(3):
        expected = one_by_one(GRID, targets.boxes_BG4[i][targets.valid_BG[i]], inside_BA[i])
        found = torch.where(positive_BA[i], box_BA[i], -1).tolist()
        assert found == expected


def test_padding_boxes_and_the_order_of_images_change_nothing():
    targets = random_targets([3, 7], [(128, 160), (64, 160)], 1)
    box_BA, positive_BA = assign_atss(GRID, targets)
    more = Targets(
        torch.cat([targets.boxes_BG4, torch.full((2, 4, 4), 50.0)], 1),
        torch.cat([targets.labels_BG, torch.zeros(2, 4, dtype=torch.long)], 1),
        torch.cat([targets.valid_BG, torch.zeros(2, 4, dtype=torch.bool)], 1),
        targets.sizes_B2,
    )
    padded_box_BA, padded_positive_BA = assign_atss(GRID, more)
    assert torch.equal(positive_BA, padded_positive_BA)
    assert torch.equal(box_BA[positive_BA], padded_box_BA[positive_BA])
    swap = Targets(*(t.flip(0) for t in (targets.boxes_BG4, targets.labels_BG, targets.valid_BG, targets.sizes_B2)))
    assert torch.equal(assign_atss(GRID, swap)[1], positive_BA.flip(0))


def test_a_batch_without_any_box_has_no_positive():
    none = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool),
                   torch.tensor([[128, 160]] * 2))  # fmt: skip
    assert not assign_atss(GRID, none)[1].any()
    assert not assign_atss(GRID, random_targets([0, 0], [(128, 160)] * 2, 0))[1].any()


def test_sites_in_the_padding_are_never_positive():
    targets = random_targets([6, 6], [(128, 160), (60, 70)], 3)
    _, positive_BA = assign_atss(GRID, targets)
    assert not (positive_BA & ~sites_inside(GRID, targets.sizes_B2)).any()
