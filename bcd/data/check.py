"""What is wrong with a data set, and what it is made of: the library behind `bcd data check`.

Faults are what a person should correct: images that do not open, boxes outside or without area, unknown classes,
duplicate images, the same image in train and val. Remarks are what a person should know.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bcd.data.guess import guess_data
from bcd.data.images import FileDataset, in_threads
from bcd.data.loader import Data, batch_indices, input_size
from bcd.data.records import EXAMPLES, DataError, Dataset, Progress, Splits
from bcd.data.unlabeled import open_folder
from bcd.spec import YoloData

SHOWN = 3  # places shown for each kind of fault
SMALL, MEDIUM = 32**2, 96**2  # COCO's limits of object areas, square pixels of the original image
SIDES = (8, 16, 32, 64, 128, 256, 512)  # limits of the histogram of box sides in the model's input, pixels
COMMON_SIZES = 8  # image sizes listed by themselves
ALIKE_BITS = 2  # of 64: a re-encoded or slightly scaled copy differs by less, another photo by far more
MOST_PAIRS = 2 * 10**9  # compared for look-alikes: some ten seconds

TWICE = "duplicate images"
LEAKED = "same image in train and val"
LEAKED_UNLABELED = "unlabelled image is in val"
BROKEN = "image does not open"
UNREADABLE = "data set cannot be read"


@dataclass(frozen=True)
class Fault:
    """A kind of fault, how often it occurs in a part of the data set, and the first few places."""

    reason: str
    part: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class PartReport:
    """What one part (train, val, unlabelled) is made of.

    `background`: images without objects. `boxes`: objects by COCO size. `input_sides`: objects by the root of their
    area in the model's input, under the upper limit of each bin in pixels. `levels`: objects by the stride of the
    pyramid level whose prior box is nearest in size. `below_stride`: objects smaller than the finest stride there.
    `padding`: padded part of training batches, as they are and grouped by shape. `image_sizes`: (width, height,
    images), the commonest first.
    """

    images: int
    objects: int
    background: int
    ignored: int
    clipped: int
    most_objects: int
    left_out: dict[str, int]
    notes: dict[str, int]
    classes: dict[str, int]
    boxes: dict[str, int]
    input_sides: dict[str, int]
    levels: dict[str, int]
    below_stride: int
    image_sizes: tuple[tuple[int, int, int], ...]
    distinct_sizes: int
    padding: dict[str, float]


@dataclass(frozen=True)
class Report:
    """Everything about one data set. `version` covers names, sizes and objects, `pixel_version` every pixel too."""

    source: str
    type: str
    version: str | None = None
    pixel_version: str | None = None
    parts: dict[str, PartReport] = field(default_factory=dict)
    missing_classes: dict[str, list[str]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    remarks: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values, with `ok`: whether there is no fault."""
        return {"ok": not self.faults, **asdict(self)}


@dataclass(frozen=True)
class Model:
    """What decides how large objects are for the model."""

    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    prior_scale: float = 8.0  # side of a level's prior box over its stride
    batch_size: int = 16


def check_data(
    data: Data,
    *,
    source: str = "data",
    model: Model | None = None,
    pixels: bool = False,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check all parts of a data set. Never raises for a fault of the data: it is in the report.

    Without `pixels`, headers and ends of all image files are read, and copies are found by their bytes. With `pixels`
    every image is decoded: damage in the middle of files and re-saved copies are found too, and `pixel_version` is
    filled in.
    """
    from bcd.data import open_data

    token = EXAMPLES.set(SHOWN)
    try:
        if data.type != "digits-scenes-v1":
            data = data.model_copy(update={"on_invalid": "skip"})
        splits = open_data(data, cache_dir=cache_dir, progress=progress)
    except DataError as error:
        return Report(source, data.type, faults=(Fault(UNREADABLE, "all", 1, (str(error),)),))
    finally:
        EXAMPLES.reset(token)
    return report(splits, data, source=source, model=model, pixels=pixels, progress=progress)


def report(
    splits: Splits,
    data: Data,
    *,
    source: str,
    model: Model | None = None,
    pixels: bool = False,
    progress: Progress | None = None,
) -> Report:
    """The report on a data set that is open already; see `check_data`."""
    parts = {"train": splits.train, "val": splits.val}
    if splits.unlabeled is not None:
        parts["unlabelled"] = splits.unlabeled
    faults = [fault for name, part in parts.items() for fault in _reading_faults(name, part)]
    prints = _fingerprints(parts, pixels, progress)
    faults += _broken(parts, prints)
    faults += _copies(parts, prints)
    missing = _missing_classes(splits)
    remarks = [*_missing_remarks(missing), *_path_remarks(parts, prints), *_look_alikes(parts, prints)]
    digest = _pixel_version(splits.version, prints) if pixels else None
    return Report(
        source,
        data.type,
        splits.version,
        digest,
        {name: _describe(part, data, model or Model()) for name, part in parts.items()},
        missing,
        tuple(faults),
        tuple(remarks),
    )


def check_folder(
    folder: Path, *, source: str | None = None, pixels: bool = False, progress: Progress | None = None
) -> Report:
    """Check a folder that no spec describes yet, in whatever form it is; see `guess_data`. A folder of mere images is
    checked as unlabelled ones."""
    source = source or str(folder)
    try:
        data = guess_data(folder)
        if data is not None:
            return check_data(data, source=source, pixels=pixels, progress=progress)
        token = EXAMPLES.set(SHOWN)
        try:
            images = open_folder(folder, progress)
        finally:
            EXAMPLES.reset(token)
    except DataError as error:
        return Report(source, "unknown", faults=(Fault(UNREADABLE, "all", 1, (str(error),)),))
    parts: dict[str, Dataset] = {"unlabelled": images}
    prints = _fingerprints(parts, pixels, progress)
    faults = [*_reading_faults("unlabelled", images), *_broken(parts, prints), *_copies(parts, prints)]
    digest = _pixel_version(images.content_hash, prints) if pixels else None
    data = YoloData(type="yolo", root=str(folder), classes=("thing",), train=".", val=".")  # for its default sizes
    described = {"unlabelled": _describe(images, data, Model())}
    return Report(source, "images", images.content_hash, digest, described, faults=tuple(faults))


def _pixel_version(version: str, prints: dict[str, list[_Print]]) -> str:
    lines = [version, *(one.key for some in prints.values() for one in some)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------- what it holds


def _describe(part: Dataset, data: Data, model: Model) -> PartReport:
    records = part.records
    counted = [record for record in records if len(record.labels)]
    labels = np.concatenate([r.labels[~r.ignore] for r in records]) if counted else np.zeros(0, np.int64)
    areas = np.concatenate([r.areas[~r.ignore] for r in records]) if counted else np.zeros(0)
    sides = np.concatenate([_input_sides(r, data) for r in records]) if counted else np.zeros(0)
    sizes = Counter((r.width, r.height) for r in records)
    per_class = np.bincount(labels, minlength=len(part.class_names)).tolist()
    return PartReport(
        images=len(records),
        objects=len(labels),
        background=sum(not len(r.labels) for r in records),
        ignored=int(sum(r.ignore.sum() for r in records)),
        clipped=part.clipped,
        most_objects=max((len(r.labels) for r in records), default=0),
        left_out=dict(sorted(part.skipped.items())),
        notes=dict(sorted(part.notes.items())),
        classes=dict(zip(part.class_names, per_class, strict=True)),
        boxes={
            "small": int((areas < SMALL).sum()),
            "medium": int(((areas >= SMALL) & (areas < MEDIUM)).sum()),
            "large": int((areas >= MEDIUM).sum()),
        },
        input_sides=_histogram(sides),
        levels=_levels(sides, model),
        below_stride=int((sides < min(model.strides)).sum()),
        image_sizes=tuple((w, h, n) for (w, h), n in sizes.most_common(COMMON_SIZES)),
        distinct_sizes=len(sizes),
        padding=_padding(part, data, model.batch_size),
    )


def _input_sides(record: Any, data: Data) -> NDArray[np.float64]:
    """Roots of the box areas of an image, in pixels of the model's input."""
    height, width = input_size(record.height, record.width, data)
    boxes = record.boxes[~record.ignore].astype(np.float64)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.asarray(np.sqrt(area * (height / record.height) * (width / record.width)))


def _histogram(sides: NDArray[np.float64]) -> dict[str, int]:
    bins = np.searchsorted(SIDES, sides, side="right")
    counts = np.bincount(bins, minlength=len(SIDES) + 1).tolist()
    names = [f"<{SIDES[0]}", *(f"{low}-{high}" for low, high in pairwise(SIDES)), f">={SIDES[-1]}"]
    return dict(zip(names, counts, strict=True))


def _levels(sides: NDArray[np.float64], model: Model) -> dict[str, int]:
    priors = np.log([model.prior_scale * stride for stride in model.strides])
    nearest = np.abs(np.log(np.maximum(sides, 1e-6))[:, None] - priors).argmin(1)
    counts = np.bincount(nearest, minlength=len(priors)).tolist()
    return dict(zip(map(str, model.strides), counts, strict=True))


def _padding(part: Dataset, data: Data, batch_size: int) -> dict[str, float]:
    """Padded part of the pixels of an epoch's batches, without augmentation."""
    if len(part) < batch_size:
        return {}
    sizes = np.asarray([input_size(r.height, r.width, data) for r in part.records], np.int64)
    shares = {}
    for name, grouped in (("as is", False), ("grouped", True)):
        asked = data.model_copy(update={"group_by_shape": grouped, "max_train_images": None})
        content = padded = 0
        for step in range(len(part) // batch_size):
            chosen = sizes[batch_indices(part, asked, step=step, batch_size=batch_size, seed=0)]
            high, wide = -(-chosen.max(0) // 32) * 32
            content += int(chosen.prod(1).sum())
            padded += int(high * wide * batch_size)
        shares[name] = round(1 - content / padded, 4)
    return shares


def _missing_classes(splits: Splits) -> dict[str, list[str]]:
    """Classes without any object, by split."""
    missing = {}
    for name, part in (("train", splits.train), ("val", splits.val)):
        seen = {int(label) for record in part.records for label in record.labels[~record.ignore]}
        missing[name] = [c for n, c in enumerate(part.class_names) if n not in seen]
    return missing


def _missing_remarks(missing: dict[str, list[str]]) -> Iterator[str]:
    for name, classes in missing.items():
        if classes:
            some = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
            them = "it" if len(classes) == 1 else "them"
            effect = f"the student cannot learn {them}" if name == "train" else f"AP does not measure {them}"
            count = "1 class has" if len(classes) == 1 else f"{len(classes)} classes have"
            yield f"{count} no object in {name} ({some}): {effect}"


# ----------------------------------------------------------------------------------------------------- faults


def _reading_faults(name: str, part: Dataset) -> Iterator[Fault]:
    """What the reader left out."""
    examples = part.faults.examples if isinstance(part, FileDataset) else {}
    for reason, count in sorted(part.skipped.items()):
        yield Fault(reason, name, count, tuple(examples.get(reason, ())))


@dataclass(frozen=True)
class _Print:
    """What an image is recognised by: `key` names its content ("" where nothing else has its size), `look` is a
    64-bit hash of its coarse structure, `error` says why it does not decode."""

    key: str
    look: int | None = None
    error: str = ""


def _fingerprints(parts: dict[str, Dataset], pixels: bool, progress: Progress | None) -> dict[str, list[_Print]]:
    """A fingerprint of each image of each part."""
    if not pixels and all(isinstance(part, FileDataset) for part in parts.values()):
        return _byte_prints(
            {name: part.paths for name, part in parts.items() if isinstance(part, FileDataset)}, progress
        )
    out = {}
    for name, part in parts.items():
        work = [(part, index) for index in range(len(part))]
        out[name] = list(in_threads(_pixel_print, work, f"decoding {name} images", progress, threads=4))
    return out


def _byte_prints(paths: dict[str, list[Path]], progress: Progress | None) -> dict[str, list[_Print]]:
    """Hashes of the files that share their size with another one; no others can be copies."""
    sizes = {name: [path.stat().st_size for path in some] for name, some in paths.items()}
    common = Counter(size for some in sizes.values() for size in some)
    out = {}
    for name, some in paths.items():
        work = [path if common[size] > 1 else None for path, size in zip(some, sizes[name], strict=True)]
        out[name] = list(in_threads(_byte_print, work, f"comparing {name} images", progress))
    return out


def _byte_print(path: Path | None) -> _Print:
    if path is None:
        return _Print("")
    with path.open("rb") as file:
        return _Print(hashlib.file_digest(file, "sha256").hexdigest())


def _pixel_print(item: tuple[Dataset, int]) -> _Print:
    part, index = item
    try:
        pixels = part.load_image(index)
    except DataError as error:
        return _Print("", error=str(error))
    key = hashlib.sha256(repr(pixels.shape).encode())
    key.update(np.ascontiguousarray(pixels).data)
    return _Print(key.hexdigest(), _look(pixels))


def _look(pixels: NDArray[np.uint8]) -> int | None:
    """64 bits: which of 8x8 cells is darker than its right neighbour. None for a picture without structure."""
    small = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(small).astype(np.int16)
    if np.ptp(grey) < 16:
        return None
    return int.from_bytes(np.packbits(grey[:, :-1] < grey[:, 1:]).tobytes())


def _broken(parts: dict[str, Dataset], prints: dict[str, list[_Print]]) -> Iterator[Fault]:
    for name in parts:
        errors = [one.error for one in prints[name] if one.error]
        if errors:
            yield Fault(BROKEN, name, len(errors), tuple(errors[:SHOWN]))


def _copies(parts: dict[str, Dataset], prints: dict[str, list[_Print]]) -> Iterator[Fault]:
    """Images that occur more than once within a part, and those of val that are trained on."""
    where: dict[str, dict[str, list[str]]] = defaultdict(dict)  # content -> part -> names
    for name, part in parts.items():
        for record, one in zip(part.records, prints[name], strict=True):
            if one.key:
                where[one.key].setdefault(name, []).append(record.file_name)
    for name in parts:
        groups = [found[name] for found in where.values() if len(found.get(name, ())) > 1]
        if groups:
            examples = [" = ".join(group[:4]) for group in groups[:SHOWN]]
            yield Fault(TWICE, name, sum(len(group) - 1 for group in groups), tuple(examples))
    for reason, name in ((LEAKED, "train"), (LEAKED_UNLABELED, "unlabelled")):
        both = [found for found in where.values() if name in found and "val" in found]
        if both:
            examples = [f"{name} {found[name][0]} = val {found['val'][0]}" for found in both[:SHOWN]]
            yield Fault(reason, f"{name}, val", sum(len(found["val"]) for found in both), tuple(examples))


def _path_remarks(parts: dict[str, Dataset], prints: dict[str, list[_Print]]) -> Iterator[str]:
    if "unlabelled" in parts:
        known = {one.key for one in prints["train"] if one.key}
        shared = sum(one.key in known for one in prints["unlabelled"] if one.key)
        if shared:
            yield f"{shared:,} unlabelled images are training images as well: they are only distilled once more"


def _look_alikes(parts: dict[str, Dataset], prints: dict[str, list[_Print]]) -> Iterator[str]:
    """Images of val that look like a training image but are no exact copy of one."""
    train, val = prints["train"], prints["val"]
    known = {one.key for one in train}
    first = [(n, one.look) for n, one in enumerate(train) if one.look is not None]
    second = [(n, one.look) for n, one in enumerate(val) if one.look is not None and one.key not in known]
    if not first or not second or len(first) * len(second) > MOST_PAIRS:
        return
    looks = np.asarray([look for _, look in first], np.uint64)
    pairs = []
    for n, look in second:
        differing = np.bitwise_count(looks ^ np.uint64(look))
        best = int(differing.argmin())
        if differing[best] <= ALIKE_BITS:
            pairs.append((first[best][0], n))
    if pairs:
        some = _names(parts, pairs[:SHOWN])
        yield f"{len(pairs):,} val images look like a training image ({some}): frames of one video, or edited copies?"


def _names(parts: dict[str, Dataset], pairs: Sequence[tuple[int, int]]) -> str:
    train, val = parts["train"].records, parts["val"].records
    return "; ".join(f"train {train[a].file_name} ~ val {val[b].file_name}" for a, b in pairs)
