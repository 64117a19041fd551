"""Resize and augmentation: pixels and boxes must move together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcd.data.transforms import (
    Augmentation,
    augment,
    clip_boxes,
    draw_augmentation,
    is_identity,
    keep_ratio_size,
    resize,
    scale_boxes,
)
from bcd.spec import AugmentSpec

STILL = Augmentation(False, 1.0, 0.0, 0.0, (1.0, 1.0, 1.0), 1.0, 0.0)


def picture(box: tuple[int, int, int, int], size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Black with a white rectangle."""
    image = np.zeros((*size, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def white_box(image: np.ndarray) -> list[int]:
    seen = image.min(2) > 127
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((480, 640), (800, 1333), (800, 1067)),
        ((480, 640), (240, 4096), (240, 320)),
        ((100, 400), (800, 1000), (250, 1000)),
        ((400, 100), (800, 1000), (1000, 250)),
        ((4000, 2), (64, 64), (64, 1)),
    ],
)
def test_resize_keeps_the_ratio_within_both_limits(
    size: tuple[int, int], limits: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert keep_ratio_size(*size, limits) == expected


def test_resized_boxes_stay_on_their_object() -> None:
    box = (12, 9, 42, 30)
    image = resize(picture(box), (120, 160))
    scaled = scale_boxes(np.asarray([box], np.float32), (60, 80), (120, 160))
    assert np.abs(scaled[0] - white_box(image)).max() <= 1


def test_nothing_changes_at_zero_strength() -> None:
    assert is_identity(AugmentSpec())
    assert not any(is_identity(AugmentSpec(**{key: 0.3})) for key in ("flip", "scale", "shift", "color"))
    assert draw_augmentation(AugmentSpec(), seed=3, step=5, position=1) == STILL
    image, boxes = picture((5, 6, 20, 30)), np.asarray([[5, 6, 20, 30]], np.float32)
    pixels, moved, kept = augment(image, boxes, (60, 80), STILL)
    assert np.array_equal(pixels, image)
    assert np.array_equal(moved, boxes)
    assert kept.all()


def test_choices_depend_on_seed_step_and_position_alone() -> None:
    spec = AugmentSpec(flip=0.5, scale=0.3, shift=0.2, color=0.5)
    first = draw_augmentation(spec, seed=1, step=2, position=3)
    assert draw_augmentation(spec, seed=1, step=2, position=3) == first
    others = [
        draw_augmentation(spec, seed=s, step=t, position=p) for s, t, p in [(0, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3)]
    ]
    assert first not in others


def test_turning_on_one_change_leaves_the_others_as_they_were() -> None:
    one = draw_augmentation(AugmentSpec(shift=0.2), seed=1, step=2, position=3)
    two = draw_augmentation(AugmentSpec(shift=0.2, color=0.5, scale=0.1), seed=1, step=2, position=3)
    assert (one.shift_x, one.shift_y) == (two.shift_x, two.shift_y)


@settings(max_examples=60, deadline=None)
@given(
    x=st.integers(0, 50), y=st.integers(0, 35), w=st.integers(8, 30), h=st.integers(8, 25),
    flip=st.booleans(), zoom=st.floats(0.6, 1.5), dx=st.floats(-0.3, 0.3), dy=st.floats(-0.3, 0.3),
)  # fmt: skip
def test_boxes_follow_their_object_through_any_change(
    x: int, y: int, w: int, h: int, flip: bool, zoom: float, dx: float, dy: float
) -> None:
    box = (x, y, x + w, y + h)
    choice = Augmentation(flip, zoom, dx, dy, (1.0, 1.0, 1.0), 1.0, 0.0)
    pixels, boxes, kept = augment(picture(box), np.asarray([box], np.float32), (60, 80), choice)
    assert pixels.shape == (60, 80, 3)
    x1, y1, x2, y2 = boxes[0]
    assert 0 <= x1 <= x2 <= 80
    assert 0 <= y1 <= y2 <= 60
    if kept[0]:
        # The border around moved content has its mean colour, which is dark here: the rectangle is what is white.
        assert np.abs(boxes[0] - white_box(pixels)).max() <= 1.5


def test_boxes_that_leave_the_picture_are_dropped() -> None:
    boxes = np.asarray(
        [
            [-50, 0, -10, 20],  # outside
            [-90, 0, 10, 20],  # a tenth visible
            [-10, 0, 10, 20],  # half visible
            [78.5, 0, 82, 20],  # 1.5 pixels visible
            [5, 5, 6, 6],  # tiny, but whole
        ],
        np.float32,
    )
    clipped, kept = clip_boxes(boxes, (60, 80))
    assert kept.tolist() == [False, False, True, False, True]
    assert clipped[2].tolist() == [0, 0, 10, 20]


def test_colour_changes_leave_shapes_alone() -> None:
    image = picture((10, 10, 40, 40)) // 2 + 50
    choice = Augmentation(False, 1.0, 0.0, 0.0, (1.1, 0.9, 1.0), 1.2, -10.0)
    pixels, _, _ = augment(image, np.zeros((0, 4), np.float32), (60, 80), choice)
    for channel, gain in enumerate((1.1, 0.9, 1.0)):
        expected = (image[:, :, channel] * gain - 128) * 1.2 + 128 - 10
        assert np.abs(pixels[:, :, channel] - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-9
