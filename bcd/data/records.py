"""The internal form of every data set: image records, the data set base, and the bookkeeping of faults in them."""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bcd.data.transforms import resize

Progress = Callable[[str], None]
Box = tuple[float, float, float, float]
Place = str | Callable[[], str]  # a function where finding the line is slow

# How many places of each kind of fault are kept. Not in a training run: finding a line in a large file takes seconds.
EXAMPLES: ContextVar[int] = ContextVar("examples", default=0)
SHOWN_FAULTS = 5  # enough to see the pattern, short enough for one screen


class DataError(ValueError):
    """A data set that cannot be used as it is; the message says where the fault lies and what to change."""


@dataclass(frozen=True)
class ImageRecord:
    """One image and its objects.

    `boxes` (n, 4) float32 xyxy in pixels, 0-based and half-open, inside the image and with area; `labels` (n,) int64
    class indices; `ignore` (n,) bool: crowd or difficult, never trained on and ignored by evaluation; `areas` (n,)
    float32 in square pixels, as evaluation sizes objects (the annotated area where there is one).
    """

    id: int
    file_name: str
    width: int
    height: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    areas: NDArray[np.float32]


class Dataset:
    """Images with labelled boxes in a fixed order.

    `skipped` counts what was left out, by reason; `clipped` counts boxes that were cut at the image's edge;
    `content_hash` changes when classes, images or objects change. For file data it covers names, sizes in pixels
    and bytes, and objects, but not the pixels: reading every image would cost minutes.
    """

    in_memory = False  # whether load_image costs nothing, so that keeping its result is pointless
    notes: Mapping[str, int] = {}  # what a reader did that is no fault but worth knowing, and how often

    def __init__(
        self,
        class_names: Sequence[str],
        records: Sequence[ImageRecord],
        *,
        skipped: dict[str, int] | None = None,
        clipped: int = 0,
        content_hash: str,
    ):
        self.class_names = tuple(class_names)
        self.records = list(records)
        self.skipped = dict(skipped or {})
        self.clipped = clipped
        self.content_hash = content_hash

    def __len__(self) -> int:
        return len(self.records)

    @functools.cached_property
    def aspects(self) -> bytes:
        """One signed byte for each image: the logarithm of height / width in steps of 5 %."""
        ratios = [math.log(record.height / record.width) / math.log(1.05) for record in self.records]
        return np.clip(np.rint(ratios), -127, 127).astype(np.int8).tobytes()

    def load_image(self, i: int) -> NDArray[np.uint8]:
        """Pixels of image `i` as (H, W, 3) uint8 RGB. Raises `DataError` when they cannot be read."""
        raise NotImplementedError

    def load_resized(self, i: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Image `i` scaled to (height, width). Callers must not write into it: it may be kept for the next time."""
        return resize(self.load_image(i), size)


@dataclass(frozen=True)
class Splits:
    """The parts of a data set; all have the same classes in the same order.

    `unlabeled` holds images without objects that are only distilled. Their ids are negative and occur nowhere else.
    """

    train: Dataset
    val: Dataset
    unlabeled: Dataset | None = None

    @property
    def version(self) -> str:
        """SHA-256 that names this version of the data set: it changes when any part of it changes."""
        parts = [self.train, self.val, *([self.unlabeled] if self.unlabeled is not None else [])]
        return hashlib.sha256("\n".join(part.content_hash for part in parts).encode()).hexdigest()

    @property
    def training(self) -> Dataset:
        """All images that are trained on: the labelled ones, then the unlabelled ones."""
        return self.train if self.unlabeled is None else _Joined(self.train, self.unlabeled)


class _Joined(Dataset):
    """Two data sets of the same classes, one after the other."""

    def __init__(self, first: Dataset, second: Dataset):
        super().__init__(first.class_names, first.records + second.records, content_hash="")
        self._parts = (first, second)
        self.in_memory = first.in_memory and second.in_memory

    def part(self, i: int) -> tuple[Dataset, int]:
        first, second = self._parts
        return (first, i) if i < len(first) else (second, i - len(first))

    def load_image(self, i: int) -> NDArray[np.uint8]:
        dataset, index = self.part(i)
        return dataset.load_image(index)

    def load_resized(self, i: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        dataset, index = self.part(i)
        return dataset.load_resized(index, size)


@dataclass
class Faults:
    """Counts the faults of one data set and settles them after `on_invalid`.

    `add` keeps the first few places for the message.
    """

    on_invalid: Literal["refuse", "skip"]
    counts: Counter[str] = field(default_factory=Counter)
    clipped: int = 0
    shown: list[str] = field(default_factory=list)
    examples: dict[str, list[str]] = field(default_factory=dict)  # by reason; only where EXAMPLES asks for them

    def add(self, reason: str, place: Place, detail: str = "") -> None:
        self.counts[reason] += 1
        if self.counts[reason] <= EXAMPLES.get():
            where = place if isinstance(place, str) else place()
            self.examples.setdefault(reason, []).append(where + (f": {detail}" if detail else ""))
        if self.on_invalid == "refuse" and len(self.shown) < SHOWN_FAULTS:
            where = place if isinstance(place, str) else place()
            self.shown.append(f"{where}: {reason}" + (f": {detail}" if detail else ""))

    def settle(self) -> dict[str, int]:
        """The counts by reason. Raises `DataError` with the first faults when they are to be refused."""
        total = self.counts.total()
        if total and self.on_invalid == "refuse":
            head = "1 fault in the data set:" if total == 1 else f"{total:,} faults in the data set:"
            rest = [f"  and {total - len(self.shown):,} more"] if total > len(self.shown) else []
            hint = "Correct the files, or set data.on_invalid: skip to leave these out and count them."
            raise DataError("\n".join([head, *(f"  {line}" for line in self.shown), *rest, hint]))
        return dict(self.counts)


NO_NUMBERS = "box is not four finite numbers"
NO_AREA = "box without area"
OUTSIDE = "box outside the image"
UNKNOWN_CLASS = "unknown class"
NO_SIZE = "annotation without image size"
NO_IMAGE = "missing image file"
DUPLICATE = "duplicate id"


def check_box(box: Iterable[float], width: int, height: int) -> tuple[Box, bool] | str:
    """Clip an xyxy box to the image: the box and whether it was cut, or the reason why it is invalid."""
    try:
        x1, y1, x2, y2 = (float(v) for v in box)
    except (TypeError, ValueError, OverflowError):
        return NO_NUMBERS
    if not all(math.isfinite(v) for v in (x1, y1, x2, y2)):
        return NO_NUMBERS
    if x2 <= x1 or y2 <= y1:
        return NO_AREA
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        return OUTSIDE
    as_float32 = np.asarray(cut, np.float32)
    if as_float32[2] <= as_float32[0] or as_float32[3] <= as_float32[1]:
        return NO_AREA
    return cut, cut != (x1, y1, x2, y2)


def make_record(
    id: int,
    file_name: str,
    width: int,
    height: int,
    objects: Sequence[tuple[Box, int, bool, float | None]],
) -> ImageRecord:
    """A record from (checked box, label, ignore, annotated area or None) for each object."""
    boxes = np.asarray([o[0] for o in objects], np.float64).reshape(-1, 4)
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas = [box_area if o[3] is None else o[3] for o, box_area in zip(objects, box_areas, strict=True)]
    return ImageRecord(
        id=id,
        file_name=file_name,
        width=width,
        height=height,
        boxes=boxes.astype(np.float32),
        labels=np.asarray([o[1] for o in objects], np.int64),
        ignore=np.asarray([o[2] for o in objects], np.bool_),
        areas=np.asarray(areas, np.float32),
    )


def without_labels(records: Sequence[ImageRecord], others: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The same images without objects, and with negative ids that none of the `others` has."""
    first = min([0, *(record.id for record in others)]) - 1
    return [make_record(first - n, r.file_name, r.width, r.height, []) for n, r in enumerate(records)]


def hash_records(class_names: Sequence[str], records: Iterable[ImageRecord], extra: Iterable[str] = ()) -> str:
    """SHA-256 over classes, records and further strings (one for each image, say), in their order."""
    digest = hashlib.sha256()
    for name in class_names:
        digest.update(f"class {name}\n".encode())
    for r in records:
        digest.update(f"image {r.id} {r.width} {r.height} {len(r.labels)} {r.file_name}\n".encode())
        for array, form in ((r.boxes, "<f4"), (r.labels, "<i8"), (r.ignore, "u1"), (r.areas, "<f4")):
            digest.update(np.ascontiguousarray(array).astype(form).tobytes())
    for text in extra:
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()
