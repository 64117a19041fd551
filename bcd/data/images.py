"""Image files: the cheap check of all of them before a run starts, decoding, and a bounded store of decoded ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bcd.data.records import (
    NO_IMAGE,
    DataError,
    Dataset,
    Faults,
    ImageRecord,
    Place,
    Progress,
    hash_records,
    make_record,
)
from bcd.data.transforms import resize

S = TypeVar("S")
T = TypeVar("T")

# Named formats only: Pillow would hand others, such as EPS, to external programs.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
CACHE_BYTES = 768 * 2**20  # holds a few hundred images of 800x1067, and leaves room on a machine with 4 GB

EMPTY = "image without objects, left out (skip_empty)"
SIDEWAYS = 5  # from this EXIF orientation on, width and height change places
_FAILURES = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def check_root(root: str) -> Path:
    """The data folder. Raises `DataError` when it is not there."""
    path = Path(root).expanduser()
    if not path.is_dir():
        raise DataError(f"no such folder: {path}; give data.root the folder of the data set as the worker sees it")
    return path


def below_root(root: Path, relative: str, key: str) -> Path:
    """`root / relative`. Raises `DataError` for an absolute path or one that climbs out of the root."""
    if not stays_below(relative):
        raise DataError(f"{key}: {relative!r} must be a path below data.root, without '..'")
    return root / relative


def stays_below(relative: str) -> bool:
    """Whether a path from a spec or an annotation names something below the folder it is joined to."""
    path = PurePosixPath(relative.replace("\\", "/"))
    return bool(relative) and "\0" not in relative and not path.is_absolute() and ".." not in path.parts


def check_image(path: Path, width: int, height: int) -> tuple[str, str] | None:
    """The fault of an image file as (reason, detail), or None.

    Reads the header of every file. A JPEG or PNG whose end lacks the format's end mark is decoded in full, which
    finds truncated files; damage in the middle of a file shows only when the image is used.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.size != (width, height) and image.mode[0] not in "IF":
                turned = image.size == (height, width) and _orientation(image) >= SIDEWAYS
                hint = "; it carries an EXIF rotation, apply that to the pixels" if turned else ""
                found = f"file {image.size[0]}x{image.size[1]}, annotation {width}x{height} (width x height){hint}"
                return "image size differs from the annotation", found
            return _fault(image, path)
    except FileNotFoundError:
        return NO_IMAGE, ""
    except _FAILURES as error:
        return "image does not open", str(error)


def probe_image(path: Path) -> tuple[int, int] | tuple[str, str]:
    """(width, height) of an image file as it is seen upright, or its fault as (reason, detail); see `check_image`."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            turned = _orientation(image) >= SIDEWAYS
            return _fault(image, path) or ((height, width) if turned else (width, height))
    except FileNotFoundError:
        return NO_IMAGE, ""
    except _FAILURES as error:
        return "image does not open", str(error)


def probe_images(
    paths: Sequence[Path], label: str, progress: Progress | None
) -> Iterator[tuple[int, int] | tuple[str, str]]:
    """`probe_image` of each path, in order."""
    return in_threads(probe_image, paths, f"checking {label} images", progress)


def _fault(image: Image.Image, path: Path) -> tuple[str, str] | None:
    if image.mode[0] in "IF":
        return "image of an unsupported kind", f"{image.mode} pixels; convert it to 8 bits for each channel"
    if not _has_end(path, image.format):
        image.load()
    return None


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none."""
    # Pillow would decode the whole PNG to look for one behind the pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(0x0112, 1))


def check_images(
    items: Sequence[tuple[Path, int, int]], label: str, progress: Progress | None
) -> Iterator[tuple[str, str] | None]:
    """`check_image` for (path, width, height) each, in order."""
    return in_threads(lambda item: check_image(*item), items, f"checking {label} images", progress)


def in_threads(
    work: Callable[[S], T], items: Sequence[S], doing: str, progress: Progress | None, *, threads: int = 8
) -> Iterator[T]:
    """work(item) of each item, in order. Threads hide the latency of network drives."""
    said = time.monotonic()
    with ThreadPoolExecutor(threads, "bcd-check") as pool:
        for n, result in enumerate(pool.map(work, items, chunksize=1), 1):
            if progress and time.monotonic() - said > 2:
                said = time.monotonic()
                progress(f"{doing}: {n:,} of {len(items):,}")
            yield result


def keep_checked(
    found: Sequence[tuple[ImageRecord, Path, Place]], faults: Faults, label: str, progress: Progress | None
) -> tuple[list[ImageRecord], list[Path]]:
    """The records whose image file is in order; the others are added to `faults` with their place."""
    records: list[ImageRecord] = []
    paths: list[Path] = []
    results = check_images([(path, record.width, record.height) for record, path, _ in found], label, progress)
    for (record, path, place), fault in zip(found, results, strict=True):
        if fault is None:
            records.append(record)
            paths.append(path)
        else:
            reason, detail = fault
            faults.add(reason, place, f"{path}" + (f" ({detail})" if detail else ""))
    return records, paths


def keep_probed(
    found: Sequence[tuple[str, Path, Place]], faults: Faults, label: str, progress: Progress | None
) -> tuple[list[ImageRecord], list[Path]]:
    """Records without objects of the (name, path, place) whose file is in order, with ids from 0; the others become
    faults. For sources that do not state image sizes."""
    records: list[ImageRecord] = []
    paths: list[Path] = []
    results = probe_images([path for _, path, _ in found], label, progress)
    for (name, path, place), result in zip(found, results, strict=True):
        match result:
            case (int(width), int(height)):
                records.append(make_record(len(records), name, width, height, []))
                paths.append(path)
            case (reason, detail):
                # Beside a line of a list the file's name says which image; a file's place says it already.
                named = "" if str(path) == str(place) else f"{path}"
                faults.add(str(reason), place, " ".join(part for part in (named, detail and f"({detail})") if part))
    return records, paths


def decode(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """Pixels of an image file as (H, W, 3) uint8 RGB. Raises `DataError` naming the file.

    `upright` applies an EXIF rotation. Sources whose annotations state the image size do without: they were made on
    the pixels as stored, or the sizes differ and the image is refused.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = ImageOps.exif_transpose(image) if upright and _orientation(image) > 1 else image
            return np.asarray(turned.convert("RGB"))
    except _FAILURES as error:
        raise DataError(
            f"{path}: the image cannot be decoded ({error}); replace the file or take it out of the data set"
        ) from None


class PixelCache:
    """Keeps decoded images until a number of bytes is reached; after that it takes no more.

    Nothing is pushed out: with a new random order in each epoch, pushing out would replace what is needed next.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES):
        self._max_bytes = max_bytes
        self._bytes = 0
        self._items: dict[Any, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The array under `key`, made on first use. Callers must not write into it."""
        found = self._items.get(key)
        if found is not None:
            return found
        made = make()
        with self._lock:
            if key not in self._items and self._bytes + made.nbytes <= self._max_bytes:
                self._items[key] = made
                self._bytes += made.nbytes
        return made


class FileDataset(Dataset):
    """A data set whose images are files: `paths[i]` belongs to `records[i]`."""

    def __init__(
        self,
        class_names: Sequence[str],
        records: Sequence[ImageRecord],
        paths: Sequence[Path],
        *,
        faults: Faults,
        cache: PixelCache,
        upright: bool = False,
        notes: Mapping[str, int] | None = None,
    ):
        sizes = (str(path.stat().st_size) for path in paths)
        super().__init__(
            class_names,
            records,
            skipped=faults.settle(),
            clipped=faults.clipped,
            content_hash=hash_records(class_names, records, sizes),
        )
        self.paths = list(paths)
        self.cache = cache
        self.faults = faults
        self.upright = upright
        self.notes = dict(notes or {})

    def without_empty(self) -> FileDataset:
        """The images with an object that is not ignored. Raises `DataError` when there is none."""
        kept = [n for n, record in enumerate(self.records) if not record.ignore.all()]
        if not kept:
            raise DataError("data.skip_empty leaves no training image: none has an object; look at the annotations")
        left_out = len(self.records) - len(kept)
        return FileDataset(
            self.class_names,
            [self.records[n] for n in kept],
            [self.paths[n] for n in kept],
            faults=self.faults,
            cache=self.cache,
            upright=self.upright,
            notes={**self.notes, **({EMPTY: left_out} if left_out else {})},
        )

    def load_image(self, i: int) -> NDArray[np.uint8]:
        """Pixels of image `i` as (H, W, 3) uint8 RGB. Raises `DataError` when the file cannot be decoded."""
        pixels = decode(self.paths[i], upright=self.upright)
        record = self.records[i]
        if pixels.shape[:2] != (record.height, record.width):
            found = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise DataError(
                f"{self.paths[i]}: the file changed since the data set was read: it is {found} now and was "
                f"{record.width}x{record.height} (width x height); start the job again"
            )
        return pixels

    def load_resized(self, i: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Image `i` scaled to (height, width), from the cache where it is kept. Callers must not write into it."""
        return self.cache.get((self.paths[i], size), lambda: resize(self.load_image(i), size))


def _has_end(path: Path, format: str | None) -> bool:
    mark = END_MARKS.get(format or "")
    if mark is None:
        return True
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 64))
        return mark in file.read()
