"""Batches: which images, in which order, padded how, and made ahead of time in background threads.

A training batch is a pure function of (seed, step), so a resumed run needs no loader state. Pixels stay uint8 until
they are on the device.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bcd.data.images import FileDataset
from bcd.data.records import Dataset
from bcd.data.transforms import (
    Pixels,
    augment,
    draw_augmentation,
    is_identity,
    keep_ratio_size,
    resize,
    scale_boxes,
)
from bcd.spec import CocoData, DigitsData, VocData
from bcd.types import Targets

T = TypeVar("T")
Data = DigitsData | CocoData | VocData

# ImageNet's mean colour: about 0 once normalised, as in MMDetection, which pads after normalising.
PADDING = (124, 116, 104)

_STREAM = 1  # keeps the order's random numbers apart from the augmentation's, which share the seed
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


def train_batch(dataset: Dataset, data: Data, *, step: int, batch_size: int, seed: int, divisor: int = 32) -> Batch:
    """The training batch of a step (from 0). Raises `DataError` when an image cannot be decoded.

    Epochs follow each other without a break: a batch may hold the end of one and the start of the next. Ignored
    objects (crowd, difficult) are not among the targets.
    """
    images, all_boxes, all_labels, ids = [], [], [], []
    for position in range(batch_size):
        index = training_index(len(dataset), data.max_train_images, seed, step * batch_size + position)
        record = dataset.records[index]
        boxes, labels = record.boxes[~record.ignore], record.labels[~record.ignore]
        frame = _input_size(record.height, record.width, data)
        if is_identity(data.augment):
            pixels = _pixels(dataset, index, frame)
            boxes = scale_boxes(boxes, (record.height, record.width), frame)
        else:
            choice = draw_augmentation(data.augment, seed=seed, step=step, position=position)
            # A zoomed image is made from the original, so that it is resampled only once.
            source = (record.height, record.width) if data.augment.scale else frame
            boxes = scale_boxes(boxes, (record.height, record.width), source)
            pixels, boxes, kept = augment(_pixels(dataset, index, source), boxes, frame, choice)
            boxes, labels = boxes[kept], labels[kept]
        images.append(pixels)
        all_boxes.append(boxes)
        all_labels.append(labels)
        ids.append(record.id)
    images_B3HW, sizes_B2 = _pad_images(images, divisor)
    return Batch(images_B3HW, _pad_targets(all_boxes, all_labels, sizes_B2), tuple(ids))


def training_index(images: int, max_images: int | None, seed: int, n: int) -> int:
    """The n-th image of a training run: random orders of all images (or of the chosen subset), one after another."""
    count = images if max_images is None else min(max_images, images)
    epoch, place = divmod(n, count)
    index = int(_order(count, seed, epoch)[place])
    return index if count == images else int(_order(images, _SUBSET_SEED, -1)[index])


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


def prefetch(make: Callable[[int], T], start: int, stop: int, *, threads: int = 2) -> Generator[T]:
    """make(start) ... make(stop - 1) in order, made ahead in background threads.

    What `make` raises is raised here, in its turn. Threads start with the first item and end when the iterator is
    exhausted, closed or dropped.
    """
    pool = ThreadPoolExecutor(threads, "bcd-prefetch")
    ahead: deque[Future[T]] = deque()
    try:
        for n in range(start, stop):
            ahead.append(pool.submit(make, n))
            # Two for each thread: one in work and one ready. More would only hold memory.
            if len(ahead) >= 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _eval_batch(dataset: Dataset, data: Data, indices: tuple[int, ...], divisor: int) -> EvalBatch:
    images, scales = [], []
    for index in indices:
        record = dataset.records[index]
        height, width = _input_size(record.height, record.width, data)
        images.append(_pixels(dataset, index, (height, width)))
        scales.append((width / record.width, height / record.height))
    images_B3HW, sizes_B2 = _pad_images(images, divisor)
    return EvalBatch(images_B3HW, sizes_B2, torch.tensor(scales, dtype=torch.float32), indices)


def padded_size(height: int, width: int, data: Data, divisor: int = 32) -> tuple[int, int]:
    """(height, width) of the input that an image of the given size becomes when it is alone in its batch."""
    height, width = _input_size(height, width, data)
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


@functools.lru_cache(maxsize=8)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A random order of `count` images; epoch -1 is the order from which a subset is taken."""
    return np.random.default_rng([_STREAM, seed, epoch + 1]).permutation(count)


def _input_size(height: int, width: int, data: Data) -> tuple[int, int]:
    """(height, width) at which an image enters the model; generated scenes have theirs already."""
    return (height, width) if isinstance(data, DigitsData) else keep_ratio_size(height, width, data.image_size)


def _pixels(dataset: Dataset, index: int, size: tuple[int, int]) -> Pixels:
    """Image `index` at (height, width), from the data set's cache where it has one."""
    if isinstance(dataset, FileDataset):
        return dataset.cache.get((dataset.paths[index], size), lambda: resize(dataset.load_image(index), size))
    return resize(dataset.load_image(index), size)


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
    boxes_BG4 = torch.zeros(len(boxes), count, 4)
    labels_BG = torch.zeros(len(boxes), count, dtype=torch.int64)
    valid_BG = torch.zeros(len(boxes), count, dtype=torch.bool)
    for i, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        boxes_BG4[i, : len(box)] = torch.from_numpy(box)
        labels_BG[i, : len(label)] = torch.from_numpy(label)
        valid_BG[i, : len(label)] = True
    return Targets(boxes_BG4, labels_BG, valid_BG, sizes_B2)
