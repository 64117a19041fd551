"""Multi-scale, crops, mosaics and batches grouped by shape: pure in (seed, step), pixels and boxes together."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bcd.data import Dataset, open_data, train_batch
from bcd.data.loader import batch_indices, training_index
from bcd.data.records import make_record
from bcd.data.transforms import (
    Mosaic,
    clip_boxes,
    draw_augmentation,
    draw_crop,
    draw_mosaic,
    draw_short_side,
    is_identity,
    make_mosaic,
)
from bcd.models.build import build_detector
from bcd.models.detector import without_ignored
from bcd.spec import AugmentSpec, DigitsData, SpecError, VocData, parse_spec
from bcd.types import Targets
from tests.helpers.runs import TINY
from tests.helpers.tiny_sets import write_tiny_voc

EVERYTHING = {
    "flip": 0.5, "scale": 0.2, "shift": 0.1, "color": 0.5, "multi_scale": [48, 96], "crop": 0.5, "mosaic": 0.5,
}  # fmt: skip


class Colours(Dataset):
    """Images of the given (height, width); the one object is a white rectangle on a grey that names the image."""

    def __init__(self, sizes: list[tuple[int, int]]):
        objects = [((w / 4, h / 4, 3 * w / 4, 3 * h / 4), n % 3, False, None) for n, (h, w) in enumerate(sizes)]
        records = [make_record(n, f"{n}", w, h, [objects[n]]) for n, (h, w) in enumerate(sizes)]
        super().__init__(("a", "b", "c"), records, content_hash="")

    def load_image(self, i: int) -> np.ndarray:
        record = self.records[i]
        image = np.full((record.height, record.width, 3), i, np.uint8)
        x1, y1, x2, y2 = record.boxes[0].astype(int)
        image[y1:y2, x1:x2] = 255
        return image


def digits(**changes: Any) -> DigitsData:
    return DigitsData.model_validate({"type": "digits-scenes-v1", "train_images": 10, "val_images": 2} | changes)


def voc(root: Path, **changes: Any) -> VocData:
    return VocData.model_validate(write_tiny_voc(root) | changes)


def white_box(image: np.ndarray) -> list[int]:
    seen = image.min(2) > 127
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


# --------------------------------------------------------------------------------------------------- together


def test_a_batch_with_every_change_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    data = voc(tmp_path, augment=EVERYTHING, image_size=[48, 128])

    def made(step: int, seed: int = 1) -> Any:
        return train_batch(open_data(data).train, data, step=step, batch_size=3, seed=seed, steps=100)

    a, b = made(4), made(4)
    assert torch.equal(a.images_B3HW, b.images_B3HW)
    assert torch.equal(a.targets.boxes_BG4, b.targets.boxes_BG4)
    assert a.images_B3HW.dtype == torch.uint8
    assert a.image_ids == train_batch(open_data(data).train, voc(tmp_path), step=4, batch_size=3, seed=1).image_ids
    assert not torch.equal(a.images_B3HW.float().mean(), made(4, seed=2).images_B3HW.float().mean())


def test_turning_one_change_on_leaves_the_draws_of_the_others() -> None:
    tick = {"seed": 1, "step": 2, "position": 3}
    all_on, boxes = AugmentSpec(**EVERYTHING), np.asarray([[0, 0, 50, 50]], np.float32)
    old = AugmentSpec(flip=0.5, scale=0.2, shift=0.1, color=0.5)
    assert draw_augmentation(all_on, **tick) == draw_augmentation(old, **tick)
    assert draw_short_side(all_on, **tick) == draw_short_side(AugmentSpec(multi_scale=(48, 96)), **tick)
    for step in range(20):
        at = {**tick, "step": step}
        alone = draw_crop(AugmentSpec(crop=0.5), (60, 80), boxes, **at)
        assert draw_crop(all_on, (60, 80), boxes, **at) == alone
        assert draw_mosaic(all_on, steps=None, **at) == draw_mosaic(AugmentSpec(mosaic=0.5), steps=None, **at)


def test_each_new_change_counts_as_a_change() -> None:
    assert not is_identity(AugmentSpec(multi_scale=(48, 96)))
    assert not is_identity(AugmentSpec(crop=0.1))
    assert not is_identity(AugmentSpec(mosaic=0.1))
    assert is_identity(AugmentSpec(mosaic=0.1, mosaic_until=0))


# ------------------------------------------------------------------------------------------------ multi-scale


def test_the_shorter_side_is_drawn_from_the_range_with_both_ends() -> None:
    spec = AugmentSpec(multi_scale=(64, 67))
    drawn = Counter(draw_short_side(spec, seed=0, step=s, position=p) for s in range(50) for p in range(8))
    assert set(drawn) == {64, 65, 66, 67}
    assert min(drawn.values()) > 60
    assert draw_short_side(AugmentSpec(), seed=0, step=0, position=0) is None


def test_one_scale_for_a_batch_leaves_no_padding_between_equal_images(tmp_path: Path) -> None:
    for per, sizes in (("batch", {1}), ("image", {2, 3, 4})):
        data = voc(tmp_path, augment={"multi_scale": [48, 96], "multi_scale_per": per}, image_size=[48, 200])
        train = open_data(data).train
        for step in range(3):
            made = train_batch(train, data, step=step, batch_size=4, seed=0)
            assert len({tuple(size) for size in made.targets.sizes_B2.tolist()}) in sizes
            assert (made.targets.sizes_B2.min(1).values >= 48).all()
            assert (made.targets.sizes_B2.min(1).values <= 96).all()
            ratio = made.targets.boxes_BG4[:, 0, 2] / made.targets.sizes_B2[:, 1]
            by_id = {record.id: record.boxes[0, 2] / record.width for record in train.records}
            expected = torch.tensor([float(by_id[id]) for id in made.image_ids])
            assert torch.allclose(ratio, expected, atol=1e-5)


def test_generated_scenes_take_every_scale_too() -> None:
    data = digits(augment={"multi_scale": [64, 128]})
    made = train_batch(open_data(data).train, data, step=0, batch_size=6, seed=0)
    sides = made.targets.sizes_B2
    assert (sides[:, 0] == sides[:, 1]).all()
    assert len(set(sides[:, 0].tolist())) > 2


@pytest.mark.parametrize(
    ("augment", "told"),
    [
        ({"multi_scale": [96, 48]}, r"write \[48, 96\]"),
        ({"multi_scale": [48, 400]}, "beyond image_size's longer side 64"),
        ({"multi_scale": [8, 48]}, "greater than or equal to 32"),
        ({"crop": 1.5}, "less than or equal to 1"),
        ({"crop": 0.5, "crop_min": 0}, "greater than 0"),
        ({"mosaic": -0.1}, "greater than or equal to 0"),
    ],
)
def test_ranges_that_cannot_be_meant_are_refused(tmp_path: Path, augment: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        parse_spec({**TINY, "data": {**write_tiny_voc(tmp_path), "augment": augment}})


# -------------------------------------------------------------------------------------------------------- crop


@settings(max_examples=60, deadline=None)
@given(step=st.integers(0, 10_000), x=st.integers(0, 300), y=st.integers(0, 150), side=st.integers(2, 90))
def test_a_crop_lies_in_the_image_and_keeps_an_object(step: int, x: int, y: int, side: int) -> None:
    boxes = np.asarray([[x, y, x + side, y + side]], np.float32)
    spec = AugmentSpec(crop=1.0, crop_min=0.3)
    window = draw_crop(spec, (240, 400), boxes, seed=0, step=step, position=0)
    if window is None:
        return  # ten tries missed it
    x1, y1, x2, y2 = window
    assert 0 <= x1 < x2 <= 400
    assert 0 <= y1 < y2 <= 240
    assert x2 - x1 >= 0.3 * 400 - 1
    assert y2 - y1 >= 0.3 * 240 - 1
    assert clip_boxes(boxes - np.asarray([x1, y1, x1, y1], np.float32), (y2 - y1, x2 - x1))[1].all()


def test_crops_come_as_often_as_asked_and_on_images_without_objects_too() -> None:
    none = np.zeros((0, 4), np.float32)
    for probability in (0.0, 0.3, 1.0):
        spec = AugmentSpec(crop=probability)
        made = [draw_crop(spec, (60, 80), none, seed=0, step=s, position=0) is not None for s in range(400)]
        assert abs(np.mean(made) - probability) < 0.06


def test_boxes_follow_their_object_into_a_crop(tmp_path: Path) -> None:
    data = voc(tmp_path, augment={"crop": 1.0}, image_size=[96, 200])
    dataset = Colours([(60, 80), (50, 90), (80, 40)])
    for step in range(8):
        made = train_batch(dataset, data, step=step, batch_size=3, seed=0)
        for n in range(3):
            h, w = made.targets.sizes_B2[n].int().tolist()
            if made.targets.valid_BG[n].any():
                seen = white_box(made.images_B3HW[n, :, :h, :w].permute(1, 2, 0).numpy())
                assert np.abs(made.targets.boxes_BG4[n, 0].numpy() - seen).max() <= 2.5


# ------------------------------------------------------------------------------------------------------ mosaic


def test_a_mosaic_shows_four_images_around_its_centre() -> None:
    def tile(grey: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((40, 60, 3), grey, np.uint8), np.asarray([[10, 10, 50, 30]], np.float32)

    choice = Mosaic((0.5, 0.5), (1.0, 1.0, 1.0, 0.25), (0.0, 0.0, 0.0))
    pixels, boxes, kept = make_mosaic([tile(10), tile(50), tile(90), tile(130)], (80, 120), choice)
    assert pixels.shape == (80, 120, 3)
    assert [int(pixels[y, x, 0]) for y, x in ((5, 5), (5, 115), (75, 5), (42, 62), (75, 115))] == [10, 50, 90, 130, 70]
    # At zoom 1 a tile fills 80x120 and a quarter of it is seen: its box of (20, 20, 100, 60) moved by the centre.
    assert boxes[0].tolist() == [[0, 0, 40, 20]]
    assert boxes[3].tolist() == [[65, 45, 85, 55]]
    assert all(one.tolist() == [True] for one in kept)


def test_a_mosaic_ends_before_the_run_does() -> None:
    spec = AugmentSpec(mosaic=1.0, mosaic_until=0.9)
    on = [draw_mosaic(spec, seed=0, step=step, position=0, steps=50) is not None for step in range(50)]
    assert on == [True] * 45 + [False] * 5
    assert draw_mosaic(spec, seed=0, step=10**6, position=0, steps=None) is not None


def test_objects_of_a_mosaic_lie_on_their_pixels_and_come_from_the_chosen_subset(tmp_path: Path) -> None:
    data = voc(tmp_path, augment={"mosaic": 1.0}, image_size=[96, 200], max_train_images=2)
    dataset = Colours([(60, 80), (50, 90), (80, 40), (60, 60), (64, 64)])
    chosen = {training_index(5, 2, 0, n) for n in range(2)}
    counts = []
    for step in range(6):
        made = train_batch(dataset, data, step=step, batch_size=2, seed=0)
        for image, boxes, valid in zip(made.images_B3HW, made.targets.boxes_BG4, made.targets.valid_BG, strict=True):
            counts.append(int(valid.sum()))
            for x1, y1, x2, y2 in boxes[valid].round().int().tolist():
                inside = image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
                assert inside.numel() == 0 or float(inside.float().mean()) > 250
            greys = {n for n in range(5) if int((image == n).sum()) > 300}  # fewer lie on resampled edges
            assert greys <= chosen
    assert max(counts) > 2


# --------------------------------------------------------------------------------------------------- grouping


def padding(dataset: Dataset, data: Any, batch_size: int, steps: int) -> float:
    """Padded part of the pixels of training batches."""
    content = whole = 0.0
    for step in range(steps):
        made = train_batch(dataset, data, step=step, batch_size=batch_size, seed=0)
        content += float(made.targets.sizes_B2.prod(1).sum())
        whole += made.images_B3HW.shape[0] * made.images_B3HW.shape[2] * made.images_B3HW.shape[3]
    return 1 - content / whole


def mixed(count: int = 50) -> Colours:
    shapes = [(60, 90), (90, 60), (64, 64), (40, 120), (120, 40)]
    return Colours([shapes[n % 5] for n in range(count)])


@pytest.mark.parametrize(("batch_size", "most"), [(4, None), (7, None), (4, 30), (60, None)])
def test_grouped_batches_hold_every_image_once_in_an_epoch(batch_size: int, most: int | None) -> None:
    dataset, data = mixed(), digits(group_by_shape=True, max_train_images=most)
    count = most or 50
    seen = [
        index
        for step in range(count)
        for index in batch_indices(dataset, data, step=step, batch_size=batch_size, seed=2)
    ]
    chosen = {training_index(50, most, 2, n) for n in range(count)}
    for epoch in range(batch_size):
        assert Counter(seen[epoch * count : (epoch + 1) * count]) == Counter(chosen)


def test_grouping_is_pure_new_in_each_epoch_and_saves_padding() -> None:
    plain, grouped = digits(), digits(group_by_shape=True)
    assert padding(mixed(), grouped, 5, 10) < 0.6 * padding(mixed(), plain, 5, 10)
    steps = [batch_indices(mixed(), grouped, step=step, batch_size=5, seed=0) for step in range(20)]
    assert batch_indices(mixed(), grouped, step=13, batch_size=5, seed=0) == steps[13]
    assert {frozenset(batch) for batch in steps[:10]} != {frozenset(batch) for batch in steps[10:]}
    assert batch_indices(mixed(), grouped, step=0, batch_size=5, seed=1) != steps[0]
    shapes = [[dataset.records[i].width for i in batch] for dataset, batch in ((mixed(), b) for b in steps[:10])]
    assert sum(len(set(widths)) == 1 for widths in shapes) == 10
    assert [widths[0] for widths in shapes] != sorted(widths[0] for widths in shapes)


def test_images_of_one_shape_are_batched_at_random_as_before() -> None:
    dataset, data = Colours([(64, 64)] * 12), digits(group_by_shape=True)
    plain = [batch_indices(dataset, digits(), step=step, batch_size=3, seed=0) for step in range(4)]
    grouped = [batch_indices(dataset, data, step=step, batch_size=3, seed=0) for step in range(4)]
    assert sorted(plain) == sorted(grouped)


# --------------------------------------------------------------------------------------------- ignored objects


class Crowds(Colours):
    """Each image also has an ignored object in its upper left corner."""

    def __init__(self, sizes: list[tuple[int, int]]):
        super().__init__(sizes)
        for n, (h, w) in enumerate(sizes):
            crowd = ((0.0, 0.0, w / 3, h / 3), 1, True, None)
            objects = [((w / 4, h / 4, 3 * w / 4, 3 * h / 4), n % 3, False, None), crowd]
            self.records[n] = make_record(n, f"{n}", w, h, objects)


@pytest.mark.parametrize("augment", [{}, {"flip": 0.5, "scale": 0.3}, {"crop": 1.0}])
def test_masked_objects_move_with_the_image_and_leave_the_others_alone(tmp_path: Path, augment: dict[str, Any]) -> None:
    dataset = Crowds([(64, 96), (96, 64), (60, 60)])
    plain = voc(tmp_path, augment=augment, image_size=[96, 200])
    masked = voc(tmp_path, augment=augment, image_size=[96, 200], ignored="masked")
    seen = 0
    for step in range(6):
        a, b = (train_batch(dataset, data, step=step, batch_size=3, seed=0) for data in (plain, masked))
        assert torch.equal(a.images_B3HW, b.images_B3HW)
        assert torch.equal(a.targets.boxes_BG4, b.targets.boxes_BG4)
        assert torch.equal(a.targets.valid_BG, b.targets.valid_BG)
        assert a.targets.ignored_BI4 is None
        assert b.targets.ignored_BI4 is not None
        seen += int((b.targets.ignored_BI4[..., 2] > 0).sum())
        if not augment:  # the frame's upper left third
            assert torch.allclose(b.targets.ignored_BI4[:, 0, 2:], b.targets.sizes_B2.flip(1) / 3, atol=1e-3)
    assert seen >= 9


def test_places_in_masked_objects_take_no_part_in_the_task_loss_unless_positive() -> None:
    model = build_detector("gfl", backbone="tiny", width=8, fpn_channels=16, stacked_convs=1, strides=[8, 16],
                           reg_max=8, prior_scale=4, num_classes=3)  # fmt: skip
    out = model(torch.zeros(2, 3, 64, 64))
    box = torch.tensor([[[4.0, 4, 40, 40]], [[4.0, 4, 40, 40]]])
    valid = torch.ones(2, 1, dtype=torch.bool)
    targets = Targets(box, torch.zeros(2, 1, dtype=torch.long), valid, torch.full((2, 2), 64))
    plain = model.assign(out, targets)
    assert without_ignored(plain, out.grid, targets) is plain
    crowd = torch.tensor([[[0.0, 0, 64, 30], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    masked = without_ignored(plain, out.grid, replace(targets, ignored_BI4=crowd))
    centre = out.grid.centre_A2
    inside = (centre[:, 0] > 0) & (centre[:, 1] > 0) & (centre[:, 0] < 64) & (centre[:, 1] < 30)
    assert plain.positive_BA[0][inside].any()
    assert torch.equal(masked.task_weight[0], plain.task_weight[0] * ~(inside & ~plain.positive_BA[0]))
    assert torch.equal(masked.task_weight[1], plain.task_weight[1])
    assert torch.equal(masked.site_weight_BA, plain.site_weight_BA)
    assert not torch.equal(masked.task_weight[0], plain.task_weight[0])
