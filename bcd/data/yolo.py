"""Reads a data set in YOLO txt form: `images/` beside `labels/`, one text file for each image, normalised boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bcd.data.images import FileDataset, PixelCache, below_root, check_root, keep_probed
from bcd.data.records import (
    NO_NUMBERS,
    UNKNOWN_CLASS,
    Box,
    DataError,
    Faults,
    ImageRecord,
    Place,
    Progress,
    Splits,
    check_box,
    make_record,
)
from bcd.data.unlabeled import image_files, listed_images
from bcd.spec import YoloData

NO_READ = "label file cannot be read"
COLUMNS = "label line has not 5 columns"
NOT_NORMALISED = "box coordinates are not between 0 and 1"
BACKGROUND = "image without a label file, taken as background"
OUTLINE = "outline turned into its bounding box"
REPEATED = "repeated label line, taken once"

OVER = 1e-3  # what rounding may put beyond 1; the image's edge cuts it
SNAP = 0.01  # pixels; six decimals of a fraction place an edge no better than that in a large image

Item = tuple[Box, int, bool, float | None]


def open_yolo(spec: YoloData, progress: Progress | None = None) -> Splits:
    """Both splits. Raises `DataError`."""
    root = check_root(spec.root)
    classes, train, val = _layout(spec, root)
    cache = PixelCache()
    return Splits(
        _read_split("train", train, classes, Faults(spec.on_invalid), cache, progress),
        _read_split("val", val, classes, Faults(spec.on_invalid), cache, progress),
    )


def open_yolo_val(spec: YoloData, progress: Progress | None = None) -> FileDataset:
    """The validation split alone. Raises `DataError`."""
    classes, _, val = _layout(spec, check_root(spec.root))
    return _read_split("val", val, classes, Faults(spec.on_invalid), PixelCache(), progress)


# -------------------------------------------------------------------------------------------------- data.yaml


def _layout(spec: YoloData, root: Path) -> tuple[tuple[str, ...], list[Path], list[Path]]:
    """Classes, and the folders or lists of both splits. Keys of the spec come before those of the data.yaml."""
    content: dict[str, Any] = {}
    file = root / "data.yaml"
    if spec.data_file is not None:
        file = below_root(root, spec.data_file, "data.data_file")
        content = _read_yaml(file)
    classes = spec.classes or _names(content.get("names"), file)
    given = {"train": spec.train, "val": spec.val}
    train, val = (
        [below_root(root, text, f"data.{role}")] if text is not None else list(_from_yaml(content, role, file, root))
        for role, text in given.items()
    )
    return classes, train, val


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"no such file: {file}; data.data_file is the data.yaml, relative to data.root") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read {file}: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: a data.yaml has the keys `names`, `train` and `val`")
    return content


def _names(value: Any, file: Path) -> tuple[str, ...]:
    """Class names from a list, or from a mapping of 0, 1, 2, ... to names."""
    if isinstance(value, dict) and sorted(value, key=str) == sorted(range(len(value)), key=str):
        value = [value[n] for n in range(len(value))]
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(name, str | int) and name != "" for name in value)
    ):
        raise DataError(f"{file}: `names` must list the class names, or map 0, 1, 2, ... to them; or set data.classes")
    names = tuple(str(name) for name in value)
    if len(set(names)) != len(names):
        raise DataError(f"{file}: `names` holds a name twice; class names must be distinct")
    return names


def _from_yaml(content: dict[str, Any], role: str, file: Path, root: Path) -> Iterator[Path]:
    """The folders or lists of a split. They are looked for below data.root, wherever the file's `path` points."""
    value = content.get(role) or (content.get("valid") if role == "val" else None)
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text]
    if not texts:
        raise DataError(f"{file}: `{role}` must name a folder of images or a .txt list; or set data.{role}")
    base = content.get("path")
    bases = [root, file.parent] + ([root / base] if isinstance(base, str) else [])
    for text in texts:
        plain = text.replace("\\", "/")
        # Exports often say ../train/images and mean the folder of the data.yaml itself.
        forms = [plain, plain.removeprefix("../")]
        tried = [folder / form for form in forms for folder in bases]
        found = next((path for path in tried if path.exists()), None)
        if found is None:
            raise DataError(
                f"{file}: `{role}` names {text!r}, which is not there (looked for {tried[0]}); "
                f"set data.{role}, relative to data.root"
            )
        yield found


# -------------------------------------------------------------------------------------------------- one split


def _read_split(
    role: str,
    sources: list[Path],
    classes: tuple[str, ...],
    faults: Faults,
    cache: PixelCache,
    progress: Progress | None,
) -> FileDataset:
    found: list[tuple[str, Path, Place]] = []
    for source in sources:
        if source.suffix == ".txt":
            found += listed_images(source, f"data.{role}", faults)
        else:
            found += [(str(path.relative_to(source)), path, str(path)) for path in image_files(source, role)]
    bare, paths = keep_probed(found, faults, role, progress)
    notes: Counter[str] = Counter()
    records: list[ImageRecord] = []
    for record, path in zip(bare, paths, strict=True):
        objects = _read_labels(label_file(path), record.width, record.height, classes, faults, notes)
        records.append(make_record(record.id, record.file_name, record.width, record.height, objects))
    dataset = FileDataset(classes, records, paths, faults=faults, cache=cache, upright=True, notes=notes)
    if not records:
        where = ", ".join(map(str, sources))
        raise DataError(f"{where}: no usable image in the {role} split (skipped: {dataset.skipped or 'none'})")
    if notes[BACKGROUND] == len(records):
        raise DataError(
            f"no image of the {role} split has a label file; the one of {paths[0]} would be {label_file(paths[0])}"
        )
    return dataset


def label_file(image: Path) -> Path:
    """The label file of an image: the last folder called `images` becomes `labels`; without one it lies beside it."""
    parts = list(image.parts)
    for n in range(len(parts) - 2, -1, -1):
        if parts[n] == "images":
            parts[n] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _read_labels(
    file: Path, width: int, height: int, classes: tuple[str, ...], faults: Faults, notes: Counter[str]
) -> list[Item]:
    """The objects of an image; none for an empty file or without one."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        notes[BACKGROUND] += 1
        return []
    except (OSError, UnicodeDecodeError) as error:
        faults.add(NO_READ, str(file), str(error))
        return []
    objects: list[Item] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        text = " ".join(line.split())
        if not text:
            continue
        if text in seen:
            notes[REPEATED] += 1
            continue
        seen.add(text)
        item = _read_line(text.split(" "), f"{file}:{number}", width, height, classes, faults, notes)
        if item is not None:
            objects.append(item)
    return objects


def _read_line(
    columns: list[str],
    place: str,
    width: int,
    height: int,
    classes: tuple[str, ...],
    faults: Faults,
    notes: Counter[str],
) -> Item | None:
    shown = " ".join(columns[:6]) + (" ..." if len(columns) > 6 else "")
    outline = len(columns) >= 7 and len(columns) % 2 == 1
    if len(columns) != 5 and not outline:
        hint = "; the sixth looks like a score, labels have none" if len(columns) == 6 else ""
        faults.add(COLUMNS, place, f"{len(columns)} in {shown!r}: class, centre x, centre y, width, height{hint}")
        return None
    try:
        label, *values = (float(text) for text in columns)
    except ValueError:
        hint = f"; write the class as its number, {classes.index(columns[0])}" if columns[0] in classes else ""
        faults.add(NO_NUMBERS, place, repr(shown) + hint)
        return None
    if not np.isfinite(values).all():
        faults.add(NO_NUMBERS, place, repr(shown))
        return None
    if label not in range(len(classes)):
        faults.add(
            UNKNOWN_CLASS, place, f"{columns[0]} is no index of the {len(classes)} classes (0 to {len(classes) - 1})"
        )
        return None
    if min(values) < 0 or max(values) > 1 + OVER:
        faults.add(NOT_NORMALISED, place, f"{shown!r}; divide by the image's width and height")
        return None
    box = _outline_box(values) if outline else _centre_box(values)
    corners = [_snap(value * side, side) for value, side in zip(box, (width, height) * 2, strict=True)]
    checked = check_box(corners, width, height)
    if isinstance(checked, str):
        faults.add(checked, place, f"{shown!r} in an image of {width}x{height} (width x height)")
        return None
    if outline:
        notes[OUTLINE] += 1
    kept, clipped = checked
    faults.clipped += clipped
    return kept, int(label), False, None


def _centre_box(values: list[float]) -> list[float]:
    x, y, w, h = values
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def _outline_box(values: list[float]) -> list[float]:
    """xyxy around the points x, y, x, y, ..."""
    return [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]


def _snap(value: float, side: int) -> float:
    """A coordinate that rounding put just beyond the image's edge, on the edge."""
    if -SNAP < value < 0:
        return 0.0
    return float(side) if side < value < side + SNAP else value
