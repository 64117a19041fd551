"""digits-scenes-v1: generated scenes of handwritten digits, and their cache.

Scene number i of a split depends only on the options, the split and i: never on how many scenes there are, nor on
threads or on the order of drawing. Glyphs are scikit-learn's packaged 8x8 digits; the last fifth of each class, in
the packaged order, is kept for validation, so no validation glyph occurs in training.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bcd.data import digits_cache
from bcd.data.records import Dataset, ImageRecord, Progress, Splits, make_record, without_labels
from bcd.spec import DigitsData

GENERATOR = "digits-scenes-v1.0"  # raise it with any change to the pixels or boxes, so that old caches are left alone
CLASSES = tuple(str(digit) for digit in range(10))
SPLITS = ("train", "val", "unlabeled")  # the position is part of each scene's seed

MARGIN = 2  # empty pixels around an 8x8 glyph, so that the interpolated stroke ends softly
VISIBLE = 0.5  # opacity from which a pixel belongs to a glyph: the middle of its soft edge
STROKE_LOW, STROKE_HIGH = 0.35, 0.7  # ink levels between which a stroke's edge rises: crisp, but not jagged
MIN_CONTRAST = 80.0  # grey levels between a glyph and its background, so that labels are certain
MIN_SHOWN = 0.6  # least part of a glyph's pixels that later glyphs must leave visible
COLOUR_TRIES = 6  # colours drawn for a glyph; the one farthest from its overlapping neighbours is taken
PLACE_TRIES = 40  # places tried for a glyph before the scene goes without it
NOT_SCENES = {"type", "augment", "max_train_images", "group_by_shape", "unlabeled", "train_images", "val_images"}
CHUNK = 128  # scenes drawn at a time on their way to the cache


class DigitScenes(Dataset):
    """Scenes in one uint8 array (N, S, S, 3), which may be mapped from the cache and shared between processes."""

    in_memory = True

    def __init__(self, pixels: NDArray[np.uint8], records: list[ImageRecord], content_hash: str):
        super().__init__(CLASSES, records, content_hash=content_hash)
        self._pixels = pixels

    def load_image(self, i: int) -> NDArray[np.uint8]:
        """Pixels of scene `i` as (S, S, 3) uint8 RGB, read-only."""
        return np.asarray(self._pixels[i])


def open_digits(spec: DigitsData, cache_dir: Path | None = None, progress: Progress | None = None) -> Splits:
    """All splits, drawn now or taken from `cache_dir`."""
    train = _open_split(spec, "train", spec.train_images, cache_dir, progress)
    val = _open_split(spec, "val", spec.val_images, cache_dir, progress)
    if spec.unlabeled is None:
        return Splits(train, val)
    scenes = _open_split(spec, "unlabeled", spec.unlabeled.images, cache_dir, progress)
    scenes.records = without_labels(scenes.records, train.records)
    return Splits(train, val, scenes)


def _open_split(
    spec: DigitsData, split: str, count: int, cache_dir: Path | None, progress: Progress | None
) -> DigitScenes:
    key = _key(spec, split, count)
    shape = (count, spec.image_size, spec.image_size, 3)

    def draw() -> Iterator[digits_cache.Chunk]:
        if progress:
            progress(f"drawing {count:,} {split} scenes")
        return draw_scenes(spec, split, count)

    pixels, objects = digits_cache.load_or_draw(cache_dir, key, shape, draw, progress)
    return DigitScenes(pixels, _records(objects, count, spec.image_size, split), key)


def _key(spec: DigitsData, split: str, count: int) -> str:
    """SHA-256 of everything that decides the scenes of a split."""
    options = spec.model_dump(exclude=NOT_SCENES)
    glyphs, labels = _packaged_digits()
    digest = hashlib.sha256(json.dumps([GENERATOR, split, count, options], sort_keys=True).encode())
    digest.update(glyphs.astype("<f4").tobytes() + labels.astype("<i8").tobytes())
    return digest.hexdigest()


def _records(objects: NDArray[np.int32], count: int, size: int, split: str) -> list[ImageRecord]:
    """Records from rows of (scene, label, x1, y1, x2, y2), sorted by scene."""
    bounds = np.searchsorted(objects[:, 0], np.arange(count + 1))
    records = []
    for i in range(count):
        rows = objects[bounds[i] : bounds[i + 1]].tolist()
        items = [((float(x1), float(y1), float(x2), float(y2)), c, False, None) for _, c, x1, y1, x2, y2 in rows]
        records.append(make_record(i, f"{split}/{i:06d}", size, size, items))
    return records


# -------------------------------------------------------------------------------------------------- glyphs


@functools.cache
def _packaged_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(1797, 8, 8) ink in [0, 1] and (1797,) labels."""
    package = importlib.util.find_spec("sklearn")
    origin = package.origin if package else None
    file = Path(origin or "").parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():  # importing scikit-learn would cost every process three seconds
        rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
    else:
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        rows = np.column_stack([digits.data, digits.target]).astype(np.float32)
    return rows[:, :-1].reshape(-1, 8, 8) / np.float32(16), rows[:, -1].astype(np.int64)


@functools.cache
def glyph_indices(split: str) -> tuple[NDArray[np.int64], ...]:
    """For each class the indices of the packaged digits that a split may use: all but val use the training glyphs."""
    _, labels = _packaged_digits()
    parts = []
    for digit in range(len(CLASSES)):
        of_class = np.flatnonzero(labels == digit)
        cut = len(of_class) * 4 // 5
        parts.append(of_class[cut:] if split == "val" else of_class[:cut])
    return tuple(parts)


@functools.cache
def _glyph_image(index: int) -> tuple[Image.Image, int, int]:
    """A glyph with empty margins as a float image, and the height and width of its inked part in source pixels."""
    glyphs, _ = _packaged_digits()
    ink = glyphs[index]
    rows, columns = np.flatnonzero((ink > STROKE_LOW).any(1)), np.flatnonzero((ink > STROKE_LOW).any(0))
    inked = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(np.pad(inked, MARGIN)), *inked.shape


def _warp_glyph(index: int, height: float, degrees: float) -> NDArray[np.float32]:
    """Opacity in [0, 1] of a glyph scaled to `height` pixels and then rotated, cut to its visible pixels."""
    image, rows, columns = _glyph_image(index)
    zoom = height / rows
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    width = columns * zoom
    out_w = int(np.ceil(abs(cos) * width + abs(sin) * height + 2 * zoom))
    out_h = int(np.ceil(abs(sin) * width + abs(cos) * height + 2 * zoom))
    # Output pixel (x, y) reads source pixel (a x + b y + c, d x + e y + f); both centres fall together.
    a, b, d, e = cos / zoom, sin / zoom, -sin / zoom, cos / zoom
    c = image.width / 2 - a * out_w / 2 - b * out_h / 2
    f = image.height / 2 - d * out_w / 2 - e * out_h / 2
    warped = image.transform((out_w, out_h), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BICUBIC)
    edge = np.clip((np.asarray(warped) - STROKE_LOW) / (STROKE_HIGH - STROKE_LOW), 0, 1)
    opacity = (edge * edge * (3 - 2 * edge)).astype(np.float32)
    box = _tight_box(opacity >= VISIBLE)
    return opacity if box is None else opacity[box[1] : box[3], box[0] : box[2]]


def _tight_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Half-open xyxy around the true pixels of a mask; None where there is none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# -------------------------------------------------------------------------------------------------- scenes


@dataclass
class _Placed:
    """A glyph at its place: its label, opacity and upper left corner."""

    label: int
    opacity: NDArray[np.float32]
    x: int
    y: int

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.opacity.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


def draw_scenes(spec: DigitsData, split: str, count: int) -> Iterator[digits_cache.Chunk]:
    """Scenes 0 to count - 1 in chunks: pixels (n, S, S, 3) uint8 and rows of (scene, label, x1, y1, x2, y2) int32."""
    for first in range(0, count, CHUNK):
        numbers = range(first, min(first + CHUNK, count))
        pixels = np.empty((len(numbers), spec.image_size, spec.image_size, 3), np.uint8)
        rows: list[tuple[int, ...]] = []
        for slot, number in enumerate(numbers):
            pixels[slot], objects = draw_scene(spec, split, number)
            rows += [(number, *item) for item in objects]
        yield pixels, np.asarray(rows, np.int32).reshape(-1, 6)


def draw_scene(spec: DigitsData, split: str, number: int) -> tuple[NDArray[np.uint8], list[tuple[int, ...]]]:
    """One scene: pixels (S, S, 3) and (label, x1, y1, x2, y2) of each digit, around its visible pixels."""
    seed = np.random.SeedSequence([spec.scene_seed, SPLITS.index(split), number])
    random = np.random.Generator(np.random.PCG64(seed))
    placed, owner = _arrange(spec, split, random)
    canvas, mean = _background(spec, random)
    colours: list[NDArray[np.float32]] = []
    for n, glyph in enumerate(placed):
        below = [colours[m] for m in range(n) if _iou(glyph, placed[m]) > 0]
        colours.append(_colour(mean, below, random))
        opacity = glyph.opacity[:, :, None]
        canvas[glyph.window] += opacity * (colours[n] - canvas[glyph.window])
    canvas += random.standard_normal(canvas.shape, np.float32) * (spec.texture * 14)
    objects: list[tuple[int, ...]] = []
    for n, glyph in enumerate(placed):
        box = _tight_box(owner == n)
        assert box is not None  # _arrange leaves a part of every glyph visible
        objects.append((glyph.label, *box))
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), objects


def _arrange(spec: DigitsData, split: str, random: np.random.Generator) -> tuple[list[_Placed], NDArray[np.int8]]:
    """Digits at places where they overlap little enough, and for each pixel the digit seen there (-1: none).

    Large digits come first, so that small ones lie on top and stay legible.
    """
    sources = glyph_indices(split)
    wanted = int(random.integers(spec.min_objects, spec.max_objects + 1))
    # Evenly spread over the logarithm: as many digits between 16 and 28 pixels as between 28 and 49.
    heights = np.sort(np.exp(random.uniform(np.log(spec.min_size), np.log(spec.max_size), wanted)))[::-1]
    size = spec.image_size
    owner = np.full((size, size), -1, np.int8)
    placed: list[_Placed] = []
    whole = visible = np.zeros(0, np.int64)  # pixels of each digit: all, and those not covered by later ones
    for height in heights:
        label = int(random.integers(len(CLASSES)))
        index = int(random.choice(sources[label]))
        opacity = _warp_glyph(index, float(height), float(random.uniform(-spec.rotation, spec.rotation)))
        h, w = opacity.shape
        if h > size or w > size:
            continue
        mask = opacity >= VISIBLE
        for x, y in random.integers(0, (size - w + 1, size - h + 1), (PLACE_TRIES, 2)).tolist():
            glyph = _Placed(label, opacity, x, y)
            if any(_iou(glyph, other) > spec.max_overlap for other in placed):
                continue
            there = owner[glyph.window]
            hidden = np.bincount(there[mask] + 1, minlength=len(placed) + 1)[1:]
            if all(visible - hidden >= MIN_SHOWN * whole):
                there[mask] = len(placed)
                placed.append(glyph)
                whole = np.append(whole, mask.sum())
                visible = np.append(visible - hidden, mask.sum())
                break
    return placed, owner


def _iou(a: _Placed, b: _Placed) -> float:
    ah, aw = a.opacity.shape
    bh, bw = b.opacity.shape
    width = min(a.x + aw, b.x + bw) - max(a.x, b.x)
    height = min(a.y + ah, b.y + bh) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    return float(width * height / (aw * ah + bw * bh - width * height))


def _background(spec: DigitsData, random: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A textured background (S, S, 3) and its mean colour (3,), both in grey levels."""
    size = spec.image_size
    mean = random.uniform(40, 215, 3)
    canvas = np.empty((size, size, 3), np.float32)
    # Coarse blotches and finer grain, each its own random grid for each channel.
    for channel in range(3):
        layer = np.full((size, size), mean[channel], np.float32)
        for cells, strength in ((4, 30.0), (16, 18.0)):
            grid = Image.fromarray(random.standard_normal((cells, cells), np.float32))
            layer += np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC)) * (strength * spec.texture)
        canvas[:, :, channel] = layer
    return canvas, mean


def _colour(
    background: NDArray[np.float64], below: list[NDArray[np.float32]], random: np.random.Generator
) -> NDArray[np.float32]:
    """A random colour that differs from the background by the least contrast, and from the glyphs below it."""
    ground = float(background.mean())
    darker = max(0.0, ground - MIN_CONTRAST)
    lighter = max(0.0, 255 - MIN_CONTRAST - ground)
    draw = random.uniform(0, darker + lighter, (COLOUR_TRIES, 1))
    levels = np.where(draw < darker, draw, draw - darker + ground + MIN_CONTRAST)
    tints = random.uniform(-60, 60, (COLOUR_TRIES, 3))
    colours = np.clip(levels + tints - tints.mean(1, keepdims=True), 0, 255).astype(np.float32)
    if not below:
        return np.asarray(colours[0])
    distances = np.abs(colours[:, None] - np.stack(below)[None]).mean(2).min(1)
    return np.asarray(colours[int(distances.argmax())])
