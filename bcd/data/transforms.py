"""What happens to an image and its boxes on the way to the model: keep-ratio resize and training augmentation.

Scaling is torchvision's (v2) where images are scaled anew at every step. The rest is numpy: torchvision draws from a
global generator, where a draw must be a pure function of seed, step and position, and its colour changes take seven
times as long as one table for each channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from bcd.spec import AugmentSpec

Pixels = NDArray[np.uint8]

MIN_SIDE = 2.0  # pixels; what is left of a box below this shows nothing that could be learnt
MIN_VISIBLE = 0.2  # part of a box's area that must stay in the picture

# Keep the random numbers of each change apart from the others' and from the batch order's, which share the seed.
_STREAM, _SCALE_STREAM, _CROP_STREAM, _MOSAIC_STREAM = 2, 3, 4, 5

CROP_TRIES = 10  # crops drawn until one keeps an object; then the image stays whole
MOSAIC_CENTRE = (0.25, 0.75)  # where the four images meet, as fractions of the frame
MOSAIC_ZOOM = (0.4, 1.0)  # 0.5 shows an image in full when the four meet in the middle


@dataclass(frozen=True)
class Augmentation:
    """The random choices for one image. `zoom` and `shift` move the content inside an unchanged frame."""

    flip: bool
    zoom: float
    shift_x: float  # fraction of the width
    shift_y: float  # fraction of the height
    gain: tuple[float, float, float]  # factor on each channel
    contrast: float
    brightness: float  # grey levels


def is_identity(spec: AugmentSpec) -> bool:
    """Whether the augmentation never changes an image."""
    return not (spec.flip or spec.scale or spec.shift or spec.color or spec.multi_scale or reshapes(spec))


def reshapes(spec: AugmentSpec) -> bool:
    """Whether images may be cropped or put into a mosaic."""
    return bool(spec.crop or (spec.mosaic and spec.mosaic_until))


def draw_augmentation(spec: AugmentSpec, *, seed: int, step: int, position: int) -> Augmentation:
    """The choices for the image at a position of a batch: a pure function of its arguments.

    Every number is always drawn, so that turning one change on leaves the others as they were.
    """
    random = np.random.default_rng([_STREAM, seed, step, position])
    flip, zoom, shift_x, shift_y, contrast, brightness, *gain = random.uniform(-1, 1, 9).tolist()
    return Augmentation(
        flip=(flip + 1) / 2 < spec.flip,
        zoom=1 + zoom * spec.scale,
        shift_x=shift_x * spec.shift,
        shift_y=shift_y * spec.shift,
        # At full strength: contrast and gain by half and by a quarter, brightness by a quarter of the range.
        gain=(1 + gain[0] * spec.color / 4, 1 + gain[1] * spec.color / 4, 1 + gain[2] * spec.color / 4),
        contrast=1 + contrast * spec.color / 2,
        brightness=brightness * spec.color * 64,
    )


def draw_short_side(spec: AugmentSpec, *, seed: int, step: int, position: int) -> int | None:
    """The shorter side of an image, uniform over `multi_scale` with both ends; None without it.

    A pure function of its arguments, without the position when the whole batch shares a scale.
    """
    if spec.multi_scale is None:
        return None
    key = [_SCALE_STREAM, seed, step] + ([position] if spec.multi_scale_per == "image" else [])
    low, high = spec.multi_scale
    return int(np.random.default_rng(key).integers(low, high + 1))


def draw_crop(
    spec: AugmentSpec, size: tuple[int, int], boxes: NDArray[np.float32], *, seed: int, step: int, position: int
) -> tuple[int, int, int, int] | None:
    """A window (x1, y1, x2, y2) of an image of (height, width), or None: the whole image.

    It shows enough of at least one of the boxes, where there is any; see `clip_boxes`. A pure function of its
    arguments.
    """
    if not spec.crop:
        return None
    random = np.random.default_rng([_CROP_STREAM, seed, step, position])
    if random.random() >= spec.crop:
        return None
    height, width = size
    for tall, wide, down, right in random.random((CROP_TRIES, 4)).tolist():
        h = max(1, round(height * (spec.crop_min + (1 - spec.crop_min) * tall)))
        w = max(1, round(width * (spec.crop_min + (1 - spec.crop_min) * wide)))
        y, x = round((height - h) * down), round((width - w) * right)
        if not len(boxes) or clip_boxes(boxes - np.asarray([x, y, x, y], np.float32), (h, w))[1].any():
            return x, y, x + w, y + h
    return None


@dataclass(frozen=True)
class Mosaic:
    """The random choices for one mosaic: the point where four images meet (fractions of the frame), the zoom of each,
    and where the three others stand in the data set (fractions of its length)."""

    centre: tuple[float, float]
    zooms: tuple[float, ...]
    others: tuple[float, ...]


def draw_mosaic(spec: AugmentSpec, *, seed: int, step: int, position: int, steps: int | None) -> Mosaic | None:
    """Whether and how an image becomes a mosaic: a pure function of its arguments.

    `steps` is the length of the run, after a part of which there are none any more (None: to the end).
    """
    if not spec.mosaic or (steps is not None and step >= spec.mosaic_until * steps):
        return None
    random = np.random.default_rng([_MOSAIC_STREAM, seed, step, position])
    if random.random() >= spec.mosaic:
        return None
    x, y = random.uniform(*MOSAIC_CENTRE, 2).tolist()
    return Mosaic((x, y), tuple(random.uniform(*MOSAIC_ZOOM, 4).tolist()), tuple(random.random(3).tolist()))


def keep_ratio_size(height: int, width: int, limits: tuple[int, int]) -> tuple[int, int]:
    """(height, width) after the largest scaling whose shorter and longer side stay within `limits`."""
    short, long = limits
    scale = min(short / min(height, width), long / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) scaled to (height, width); bilinear, with anti-aliasing where it shrinks."""
    if image.shape[:2] == size:
        return image
    scaled = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(scaled)


def fast_resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """As `resize`, by torchvision: some eight times faster, and a level off Pillow in one pixel of a thousand.

    For images that are scaled anew at every step. The others keep Pillow's bits, on which results so far rest.
    """
    if image.shape[:2] == size:
        return image
    pixels_3HW = torch.from_numpy(np.require(image, requirements="W")).permute(2, 0, 1)
    scaled = functional.resize(pixels_3HW, list(size), InterpolationMode.BILINEAR, antialias=True)
    return np.asarray(scaled.permute(1, 2, 0).numpy())


def scale_boxes(boxes: NDArray[np.float32], before: tuple[int, int], after: tuple[int, int]) -> NDArray[np.float32]:
    """xyxy boxes of an image of (height, width) `before`, in one of `after`."""
    factors = np.asarray([after[1] / before[1], after[0] / before[0]] * 2, np.float32)
    return boxes * factors


def augment(
    image: Pixels,
    boxes: NDArray[np.float32],
    frame: tuple[int, int],
    choice: Augmentation,
    scaling: Callable[[Pixels, tuple[int, int]], Pixels] = resize,
) -> tuple[Pixels, NDArray[np.float32], NDArray[np.bool_]]:
    """An image changed after `choice` and put into a frame of (height, width).

    `image` (H, W, 3) may have any size of the frame's ratio; at zoom 1 it fills the frame. Returns the frame's
    pixels, all boxes moved and clipped to it, and which of them (n,) are still worth learning.
    """
    height, width = frame
    content = (max(1, round(height * choice.zoom)), max(1, round(width * choice.zoom)))
    left = round((width - content[1]) / 2 + choice.shift_x * width)
    top = round((height - content[0]) / 2 + choice.shift_y * height)
    moved = scale_boxes(boxes, _size(image), content) + np.asarray([left, top, left, top], np.float32)
    pixels = scaling(image, content)
    if (left, top, content) != (0, 0, frame):
        pixels = _place(pixels, left, top, frame)
    if choice.flip:
        pixels = pixels[:, ::-1]
        moved = np.stack([width - moved[:, 2], moved[:, 1], width - moved[:, 0], moved[:, 3]], 1)
    return _recolour(pixels, choice), *clip_boxes(moved, frame)


def make_mosaic(
    tiles: Sequence[tuple[Pixels, NDArray[np.float32]]], frame: tuple[int, int], choice: Mosaic
) -> tuple[Pixels, list[NDArray[np.float32]], list[NDArray[np.bool_]]]:
    """Four images (H, W, 3) with their boxes around one point of a frame of (height, width).

    An image at zoom 1 is as large as fits into the frame; its corner lies at the point, and what leaves the frame is
    cut. Returns the frame's pixels, and for each image its boxes in the frame and which are still worth learning.
    """
    height, width = frame
    cx, cy = round(choice.centre[0] * width), round(choice.centre[1] * height)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = np.mean([pixels.mean((0, 1)) for pixels, _ in tiles], 0).round().astype(np.uint8)
    all_boxes, all_kept = [], []
    for corner, ((pixels, boxes), zoom) in enumerate(zip(tiles, choice.zooms, strict=True)):
        fit = min(height / pixels.shape[0], width / pixels.shape[1]) * zoom
        size = (max(1, round(pixels.shape[0] * fit)), max(1, round(pixels.shape[1] * fit)))
        left = cx if corner % 2 else cx - size[1]
        top = cy if corner // 2 else cy - size[0]
        _paste(canvas, fast_resize(pixels, size), left, top)
        moved = scale_boxes(boxes, _size(pixels), size) + np.asarray([left, top, left, top], np.float32)
        clipped, kept = clip_boxes(moved, frame)
        all_boxes.append(clipped)
        all_kept.append(kept)
    return canvas, all_boxes, all_kept


def clip_boxes(boxes: NDArray[np.float32], frame: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """xyxy boxes (n, 4) cut to a frame of (height, width), and which (n,) keep enough of themselves."""
    limit = np.asarray([frame[1], frame[0]] * 2, np.float32)
    clipped = np.clip(boxes, 0, limit).astype(np.float32)
    sides = clipped[:, 2:] - clipped[:, :2]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    untouched = (clipped == boxes).all(1)  # objects that were tiny from the start stay
    kept = untouched | ((sides >= MIN_SIDE).all(1) & (sides.prod(1) >= MIN_VISIBLE * area))
    return clipped, kept


def _size(image: Pixels) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _place(image: Pixels, left: int, top: int, frame: tuple[int, int]) -> Pixels:
    """A frame filled with the image's mean colour (no artificial edge to black) and the image put into it."""
    canvas = np.empty((*frame, 3), np.uint8)
    canvas[:] = image.mean((0, 1)).round().astype(np.uint8)
    _paste(canvas, image, left, top)
    return canvas


def _paste(canvas: Pixels, image: Pixels, left: int, top: int) -> None:
    """Write an image into a canvas; what lies outside is cut."""
    (height, width), (h, w) = _size(canvas), _size(image)
    y1, y2 = max(top, 0), min(top + h, height)
    x1, x2 = max(left, 0), min(left + w, width)
    if y1 < y2 and x1 < x2:
        canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]


def _recolour(image: Pixels, choice: Augmentation) -> Pixels:
    """Gain, contrast around middle grey and brightness, through one table for each channel."""
    if choice.contrast == 1 and choice.brightness == 0 and choice.gain == (1, 1, 1):
        return image
    levels = np.arange(256, dtype=np.float64)
    out = np.empty(image.shape, np.uint8)
    for channel, gain in enumerate(choice.gain):
        table = (levels * gain - 128) * choice.contrast + 128 + choice.brightness
        out[:, :, channel] = np.clip(np.rint(table), 0, 255).astype(np.uint8)[image[:, :, channel]]
    return out
