"""Batches: which images, in which order, padded how, and made ahead of time in background threads.

A training batch is a pure function of (seed, step), so a resumed run needs no loader state. Pixels stay uint8 until
they are on the device.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bcd.data.records import Dataset, ImageRecord
from bcd.data.transforms import (
    Mosaic,
    Pixels,
    augment,
    clip_boxes,
    draw_augmentation,
    draw_crop,
    draw_mosaic,
    draw_short_side,
    fast_resize,
    is_identity,
    keep_ratio_size,
    make_mosaic,
    reshapes,
    resize,
    scale_boxes,
)
from bcd.spec import CocoData, DigitsData, VocData, YoloData
from bcd.types import Targets

T = TypeVar("T")
Data = DigitsData | CocoData | VocData | YoloData

# ImageNet's mean colour: about 0 once normalised, as in MMDetection, which pads after normalising.
PADDING = (124, 116, 104)

IGNORED = -1  # stands for the label of an ignored object on its way through the changes

# Keep the orders' random numbers apart from each other's and from the augmentation's, which share the seed.
_STREAM, _UNLABELED_STREAM, _GROUP_STREAM = 1, 6, 7
_SUBSET_SEED = 0  # every seed trains on the same images when max_train_images is set


@dataclass(frozen=True)
class Batch:
    """Training images (B, 3, H, W) uint8, padded with `PADDING` on the right and below, and their objects."""

    images_B3HW: Tensor
    targets: Targets
    image_ids: tuple[int, ...]


@dataclass(frozen=True)
class EvalBatch:
    """Evaluation images (B, 3, H, W) uint8, padded like training images.

    `sizes_B2` float32 (height, width) of the content; `scales_B2` float32 (x, y) factors from original pixels to
    input pixels, so original = input / scale; `indices` are positions in the data set.
    """

    images_B3HW: Tensor
    sizes_B2: Tensor
    scales_B2: Tensor
    indices: tuple[int, ...]


def train_batch(
    dataset: Dataset,
    data: Data,
    *,
    step: int,
    batch_size: int,
    seed: int,
    divisor: int = 32,
    unlabeled: Dataset | None = None,
    steps: int | None = None,
    positions: Sequence[int] | None = None,
) -> Batch:
    """The training batch of a step (from 0). Raises `DataError` when an image cannot be decoded.

    Epochs follow each other without a break: a batch may hold the end of one and the start of the next. Ignored
    objects (crowd, difficult) are no objects to learn; see `data.ignored`.

    With `unlabeled` images, `data.unlabeled.count(batch_size)` of them follow the `batch_size` labelled ones; those are
    the same with and without. `steps` is the length of the run, for changes that end before it does. `positions` asks
    for a part of the batch alone: those images come out as in the whole batch, but for the padding.
    """
    extra, weight = 0, 1.0
    if unlabeled is not None and data.unlabeled is not None:
        extra, weight = data.unlabeled.count(batch_size), data.unlabeled.weight
    chosen = range(batch_size + extra) if positions is None else positions
    indices = batch_indices(dataset, data, step=step, batch_size=batch_size, seed=seed)
    if extra and unlabeled is not None:
        indices += batch_indices(unlabeled, data, step=step, batch_size=extra, seed=seed, labelled=False)
    examples = []
    for position in chosen:
        source, most = (dataset, data.max_train_images) if position < batch_size else (unlabeled, None)
        assert source is not None  # there are no such positions without unlabelled images
        examples.append(_example(source, data, indices[position], _Tick(seed, step, position, steps, most)))
    images_B3HW, sizes_B2 = _pad_images([example.pixels for example in examples], divisor)
    targets = _pad_targets([e.boxes for e in examples], [e.labels for e in examples], sizes_B2)
    if not isinstance(data, DigitsData) and data.ignored == "masked":
        targets = replace(targets, ignored_BI4=_pad_boxes([example.ignored for example in examples]))
    if extra:
        labelled_B = torch.tensor([float(position < batch_size) for position in chosen])
        distill_B = torch.tensor([1.0 if position < batch_size else weight for position in chosen])
        targets = replace(targets, labelled_B=labelled_B, distill_B=distill_B)
    return Batch(images_B3HW, targets, tuple(example.id for example in examples))


def batch_indices(
    dataset: Dataset, data: Data, *, step: int, batch_size: int, seed: int, labelled: bool = True
) -> list[int]:
    """The images of a step's batch. Labelled and unlabelled ones have orders of their own."""
    stream, most = (_STREAM, data.max_train_images) if labelled else (_UNLABELED_STREAM, None)
    first, count = step * batch_size, min(most or len(dataset), len(dataset))
    epoch = first // count
    if data.group_by_shape and first + batch_size <= (epoch + 1) * count:
        start = -(-epoch * count // batch_size)  # the first step that lies wholly in this epoch
        batches = _grouped(dataset.aspects, most, seed, epoch, start, batch_size, stream)
        return [int(index) for index in batches[step - start]]
    return [training_index(len(dataset), most, seed, first + place, stream) for place in range(batch_size)]


def training_index(images: int, max_images: int | None, seed: int, n: int, stream: int = _STREAM) -> int:
    """The n-th image of a training run: random orders of all images (or of the chosen subset), one after another."""
    count = images if max_images is None else min(max_images, images)
    epoch, place = divmod(n, count)
    return _chosen(images, count, int(_order(count, seed, epoch, stream)[place]))


def _chosen(images: int, count: int, n: int) -> int:
    """Image `n` of the subset of `count` images."""
    return n if count == images else int(_order(images, _SUBSET_SEED, -1)[n])


@functools.lru_cache(maxsize=4)
def _grouped(
    aspects: bytes, max_images: int | None, seed: int, epoch: int, start: int, batch_size: int, stream: int
) -> NDArray[np.int64]:
    """The batches (n, batch_size) from step `start` on that lie wholly in an epoch.

    They hold the same images as without grouping, sorted by aspect ratio (in random order where it is the same) and
    cut; then the batches are put into random order. The batch between two epochs stays as it is, so every image comes
    once in an epoch.
    """
    images = len(aspects)
    count = images if max_images is None else min(max_images, images)
    stop = (epoch + 1) * count // batch_size
    order = _order(count, seed, epoch, stream)[start * batch_size - epoch * count : stop * batch_size - epoch * count]
    if count != images:
        order = _order(images, _SUBSET_SEED, -1)[order]
    keys = np.frombuffer(aspects, np.int8)[order]
    batches = order[np.argsort(keys, kind="stable")].reshape(-1, batch_size)
    return np.random.default_rng([_GROUP_STREAM, seed, epoch, stream]).permutation(batches)


@dataclass(frozen=True)
class _Tick:
    """Where in a run an image stands: all that its random changes depend on."""

    seed: int
    step: int
    position: int
    steps: int | None
    most: int | None  # how many of the images are trained on

    @property
    def key(self) -> _Key:
        return {"seed": self.seed, "step": self.step, "position": self.position}


class _Key(TypedDict):
    seed: int
    step: int
    position: int


@dataclass(frozen=True)
class _Example:
    """One image of a batch, ready but for the padding."""

    pixels: Pixels
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.float32]
    id: int

    @classmethod
    def of(cls, pixels: Pixels, boxes: NDArray[np.float32], labels: NDArray[np.int64], id: int) -> _Example:
        ignored = labels == IGNORED
        return cls(pixels, boxes[~ignored], labels[~ignored], boxes[ignored], id)


def _example(dataset: Dataset, data: Data, index: int, tick: _Tick) -> _Example:
    """Image `index` after all its changes."""
    record = dataset.records[index]
    size = (record.height, record.width)
    boxes, labels = _objects(record, data)
    spec = data.augment
    short = draw_short_side(spec, **tick.key)
    frame = input_size(*size, data, short)
    if is_identity(spec):
        pixels = dataset.load_resized(index, frame)
        return _Example.of(pixels, scale_boxes(boxes, size, frame), labels, record.id)
    # An image whose size changes is made from the original, so that it is resampled only once.
    varies = bool(spec.multi_scale or reshapes(spec))
    source = size if varies or spec.scale else frame
    pixels, boxes = dataset.load_resized(index, source), scale_boxes(boxes, size, source)
    if mosaic := draw_mosaic(spec, steps=tick.steps, **tick.key):
        pixels, boxes, labels = _mosaic(dataset, data, mosaic, (pixels, boxes), labels, frame, tick.most)
    elif window := draw_crop(spec, source, boxes[labels != IGNORED], **tick.key):
        x1, y1, x2, y2 = window
        pixels = pixels[y1:y2, x1:x2]
        boxes, kept = clip_boxes(boxes - np.asarray([x1, y1, x1, y1], np.float32), (y2 - y1, x2 - x1))
        boxes, labels = boxes[kept], labels[kept]
        frame = input_size(y2 - y1, x2 - x1, data, short, cropped=True)
    scaling = fast_resize if varies else resize
    pixels, boxes, kept = augment(pixels, boxes, frame, draw_augmentation(spec, **tick.key), scaling)
    return _Example.of(pixels, boxes[kept], labels[kept], record.id)


def _objects(record: ImageRecord, data: Data) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes and labels of an image; ignored objects are left out, or have the label IGNORED where they are masked."""
    if isinstance(data, DigitsData) or data.ignored == "background":
        return record.boxes[~record.ignore], record.labels[~record.ignore]
    return record.boxes, np.where(record.ignore, IGNORED, record.labels)


def _mosaic(
    dataset: Dataset,
    data: Data,
    choice: Mosaic,
    first: tuple[Pixels, NDArray[np.float32]],
    labels: NDArray[np.int64],
    frame: tuple[int, int],
    most: int | None,
) -> tuple[Pixels, NDArray[np.float32], NDArray[np.int64]]:
    """The frame of a mosaic of an image and three others of the data set, with the objects that are still seen."""
    count = min(most or len(dataset), len(dataset))
    tiles, all_labels = [first], [labels]
    for fraction in choice.others:
        index = _chosen(len(dataset), count, int(fraction * count))
        record = dataset.records[index]
        boxes, more = _objects(record, data)
        tiles.append((dataset.load_resized(index, (record.height, record.width)), boxes))
        all_labels.append(more)
    pixels, all_boxes, kept = make_mosaic(tiles, frame, choice)
    shown = np.concatenate(kept)
    return pixels, np.concatenate(all_boxes)[shown], np.concatenate(all_labels)[shown]


def eval_batches(dataset: Dataset, data: Data, *, batch_size: int, divisor: int = 32) -> Generator[EvalBatch]:
    """All images once and without augmentation; the next batches are made ahead.

    A batch holds images of one padded size only. Padding reaches the results, through GroupNorm for one, so that in
    mixed batches an image's detections would depend on its neighbours and AP on the batch size.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index, record in enumerate(dataset.records):
        groups.setdefault(padded_size(record.height, record.width, data, divisor), []).append(index)
    batches = [
        tuple(group[first : first + batch_size])
        for group in groups.values()
        for first in range(0, len(group), batch_size)
    ]
    return prefetch(lambda n: _eval_batch(dataset, data, batches[n], divisor), 0, len(batches))


def prefetch(make: Callable[[int], T], start: int, stop: int, *, threads: int | None = None) -> Generator[T]:
    """make(start) ... make(stop - 1) in order, made ahead in background threads.

    By default there are two threads, and up to eight where the process has more processors. What `make` raises is
    raised here, in its turn. Threads start with the first item and end when the iterator is exhausted, closed or
    dropped.
    """
    threads = threads or min(8, max(2, _processors() - 1))
    pool = ThreadPoolExecutor(threads, "bcd-prefetch")
    ahead: deque[Future[T]] = deque()
    try:
        for n in range(start, stop):
            ahead.append(pool.submit(make, n))
            # One in work for each thread and two ready. More would only hold memory.
            if len(ahead) >= threads + 2:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _eval_batch(dataset: Dataset, data: Data, indices: tuple[int, ...], divisor: int) -> EvalBatch:
    images, scales = [], []
    for index in indices:
        record = dataset.records[index]
        height, width = input_size(record.height, record.width, data)
        images.append(dataset.load_resized(index, (height, width)))
        scales.append((width / record.width, height / record.height))
    images_B3HW, sizes_B2 = _pad_images(images, divisor)
    return EvalBatch(images_B3HW, sizes_B2, torch.tensor(scales, dtype=torch.float32), indices)


def padded_size(height: int, width: int, data: Data, divisor: int = 32) -> tuple[int, int]:
    """(height, width) of the input that an image of the given size becomes when it is alone in its batch."""
    height, width = input_size(height, width, data)
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


@functools.lru_cache(maxsize=8)
def _order(count: int, seed: int, epoch: int, stream: int = _STREAM) -> NDArray[np.int64]:
    """A random order of `count` images; epoch -1 is the order from which a subset is taken."""
    return np.random.default_rng([stream, seed, epoch + 1]).permutation(count)


def input_size(
    height: int, width: int, data: Data, short: int | None = None, *, cropped: bool = False
) -> tuple[int, int]:
    """(height, width) at which an image enters the model; `short` takes the place of the shorter side's limit.

    Generated scenes have theirs already, as long as they are whole and at their own scale.
    """
    if not isinstance(data, DigitsData):
        return keep_ratio_size(height, width, (short or data.image_size[0], data.image_size[1]))
    if short is None and not cropped:
        return height, width
    side = short or data.image_size
    return keep_ratio_size(height, width, (side, side))


def _pad_images(images: list[Pixels], divisor: int) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) uint8 with H and W multiples of `divisor`, and the (height, width) of each image, (B, 2) float32."""
    sizes = [image.shape[:2] for image in images]
    height = -(-max(h for h, _ in sizes) // divisor) * divisor
    width = -(-max(w for _, w in sizes) // divisor) * divisor
    padded = np.empty((len(images), 3, height, width), np.uint8)
    padded[:] = np.asarray(PADDING, np.uint8)[:, None, None]
    for slot, image, (h, w) in zip(padded, images, sizes, strict=True):
        slot[:, :h, :w] = image.transpose(2, 0, 1)
    return torch.from_numpy(padded), torch.tensor(sizes, dtype=torch.float32)


def _pad_targets(boxes: list[NDArray[np.float32]], labels: list[NDArray[np.int64]], sizes_B2: Tensor) -> Targets:
    count = max(len(item) for item in labels)
    boxes_BG4 = _pad_boxes(boxes)
    labels_BG = torch.zeros(len(boxes), count, dtype=torch.int64)
    valid_BG = torch.zeros(len(boxes), count, dtype=torch.bool)
    for i, label in enumerate(labels):
        labels_BG[i, : len(label)] = torch.from_numpy(label)
        valid_BG[i, : len(label)] = True
    return Targets(boxes_BG4, labels_BG, valid_BG, sizes_B2)


def _pad_boxes(boxes: list[NDArray[np.float32]]) -> Tensor:
    padded = torch.zeros(len(boxes), max(len(item) for item in boxes), 4)
    for i, item in enumerate(boxes):
        padded[i, : len(item)] = torch.from_numpy(item)
    return padded
