"""Reads a data set in COCO json form (detection boxes; segmentations and keypoints are not looked at)."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any, TypeGuard

from bcd.data.images import FileDataset, PixelCache, below_root, check_root, keep_checked, stays_below
from bcd.data.json_lines import JsonPositions
from bcd.data.records import (
    DUPLICATE,
    NO_IMAGE,
    NO_NUMBERS,
    NO_SIZE,
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
from bcd.spec import CocoData

NO_OBJECT = "entry is not an object"
NO_ID = "id is not an integer"
NO_OWNER = "annotation of an image that is not listed"


def open_coco(spec: CocoData, progress: Progress | None = None) -> Splits:
    """Both splits. Classes are those of the training file, in the order of their ids. Raises `DataError`."""
    root = check_root(spec.root)
    cache = PixelCache()
    train_path, train_folder = _locate(root, "train", spec.train_annotations, spec.train_folder)
    val_path, val_folder = _locate(root, "val", spec.val_annotations, spec.val_folder)
    train_file = _File(train_path, progress)
    val_file = _File(val_path, progress)
    _check_same_classes(train_file, val_file)
    classes = train_file.classes
    return Splits(
        train=_read_split("train", train_file, train_folder, classes, Faults(spec.on_invalid), cache, progress),
        val=_read_split("val", val_file, val_folder, classes, Faults(spec.on_invalid), cache, progress),
    )


def open_coco_val(spec: CocoData, progress: Progress | None = None) -> FileDataset:
    """The validation split alone; its file holds the same classes. Raises `DataError`."""
    path, folder = _locate(check_root(spec.root), "val", spec.val_annotations, spec.val_folder)
    file = _File(path, progress)
    return _read_split("val", file, folder, file.classes, Faults(spec.on_invalid), PixelCache(), progress)


def _locate(root: Path, role: str, file: str, folder: str) -> tuple[Path, Path]:
    path = below_root(root, file, f"data.{role}_annotations")
    images = below_root(root, folder, f"data.{role}_folder")
    if not path.is_file():
        raise DataError(f"no such file: {path}; data.{role}_annotations is the json file, relative to data.root")
    if not images.is_dir():
        raise DataError(f"no such folder: {images}; data.{role}_folder is the image folder, relative to data.root")
    return path, images


class _File:
    """A parsed annotation file and its classes (id -> name, in the order of the ids)."""

    def __init__(self, path: Path, progress: Progress | None):
        self.path = path
        if progress:
            progress(f"reading {path.name}")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}") from None
        try:
            top = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        except RecursionError:
            raise DataError(f"{path}: nested too deeply for a COCO file") from None
        if not isinstance(top, dict):
            raise DataError(f"{path}: a COCO file is an object, not a {type(top).__name__}")
        self._positions = JsonPositions(text)
        self.images = self._list(top, "images")
        self.annotations = self._list(top, "annotations")
        self.classes = self._read_classes(self._list(top, "categories"))

    def place(self, key: str, index: int) -> Place:
        """Where an entry stands: file, line, index and id."""

        def find() -> str:
            entries = {"images": self.images, "annotations": self.annotations}[key]
            entry = entries[index]
            id = entry.get("id") if isinstance(entry, dict) else None
            return f"{self.path}:{self._positions.line(key, index)}: {key}[{index}] (id {id!r})"

        return find

    def _list(self, top: dict[str, Any], key: str) -> list[Any]:
        value = top.get(key)
        if not isinstance(value, list):
            raise DataError(
                f"{self.path}: `{key}` is missing or no list; a COCO file has images, annotations, categories"
            )
        return value

    def _read_classes(self, entries: list[Any]) -> dict[int, str]:
        classes: dict[int, str] = {}
        for index, entry in enumerate(entries):
            where = f"{self.path}:{self._positions.line('categories', index)}: categories[{index}]"
            id, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
            if not _is_int(id) or not isinstance(name, str) or not name:
                raise DataError(f"{where}: needs an integer `id` and a `name`")
            if id in classes or name in classes.values():
                raise DataError(f"{where}: id {id} or name {name!r} occurs twice; ids and names must be distinct")
            classes[id] = name
        if not classes:
            raise DataError(f"{self.path}: `categories` is empty; it must name the classes")
        return dict(sorted(classes.items()))


def _check_same_classes(train: _File, val: _File) -> None:
    for id, name in val.classes.items():
        if id in train.classes and train.classes[id] != name:
            raise DataError(
                f"{val.path}: category {id} is {name!r} here and {train.classes[id]!r} in {train.path.name}; "
                "both files must number their classes alike"
            )


def _read_split(
    role: str,
    file: _File,
    folder: Path,
    classes: dict[int, str],
    faults: Faults,
    cache: PixelCache,
    progress: Progress | None,
) -> FileDataset:
    images = _read_images(file, folder, faults)
    objects = _read_annotations(file, images, {id: label for label, id in enumerate(classes)}, faults)
    found: list[tuple[ImageRecord, Path, Place]] = []
    for id, (index, path, width, height) in images.items():
        if path is not None:
            record = make_record(id, str(path.relative_to(folder)), width, height, objects.get(id, []))
            found.append((record, path, file.place("images", index)))
    records, paths = keep_checked(found, faults, role, progress)
    dataset = FileDataset(tuple(classes.values()), records, paths, faults=faults, cache=cache)
    if not records:
        raise DataError(f"{file.path}: no usable image in the {role} split (skipped: {dataset.skipped or 'none'})")
    return dataset


def _read_images(file: _File, folder: Path, faults: Faults) -> dict[int, tuple[int, Path | None, int, int]]:
    """Image id -> (index in the file, path, width, height); the path is None for an image that is left out."""
    images: dict[int, tuple[int, Path | None, int, int]] = {}
    for index, entry in enumerate(file.images):
        place = file.place("images", index)
        if not isinstance(entry, dict):
            faults.add(NO_OBJECT, place)
            continue
        id: Any = entry.get("id")
        name, width, height = (entry.get(key) for key in ("file_name", "width", "height"))
        if not _is_int(id):
            faults.add(NO_ID, place)
        elif id in images:
            faults.add(DUPLICATE, place, f"image id {id} stands at images[{images[id][0]}] too")
        elif not _is_int(width) or not _is_int(height) or width < 1 or height < 1:
            faults.add(NO_SIZE, place, f"needs integers `width` and `height` above 0, not {width!r} and {height!r}")
            images[id] = (index, None, 0, 0)
        elif not isinstance(name, str) or not stays_below(name):
            faults.add(NO_IMAGE, place, f"file_name {name!r} must be a path below {folder}")
            images[id] = (index, None, 0, 0)
        else:
            images[id] = (index, folder / name, width, height)
    return images


def _read_annotations(
    file: _File, images: dict[int, tuple[int, Path | None, int, int]], labels: dict[int, int], faults: Faults
) -> dict[int, list[tuple[Box, int, bool, float | None]]]:
    """Image id -> its objects."""
    objects: dict[int, list[tuple[Box, int, bool, float | None]]] = defaultdict(list)
    seen: set[int] = set()
    for index, entry in enumerate(file.annotations):
        place = file.place("annotations", index)
        if not isinstance(entry, dict):
            faults.add(NO_OBJECT, place)
            continue
        id: Any = entry.get("id")
        image_id: Any = entry.get("image_id")
        category = entry.get("category_id")
        if not _is_int(id):
            faults.add(NO_ID, place)
            continue
        if id in seen:
            faults.add(DUPLICATE, place, f"annotation id {id}")
            continue
        seen.add(id)
        image = images.get(image_id) if _is_int(image_id) else None
        if image is None:
            faults.add(NO_OWNER, place, f"image_id {image_id!r}")
            continue
        _, path, width, height = image
        if path is None:
            continue  # its image is left out, and counted
        label = labels.get(category) if _is_int(category) else None
        if label is None:
            faults.add(UNKNOWN_CLASS, place, f"category_id {category!r} is not in the training file's categories")
            continue
        checked = check_box(_corners(entry.get("bbox")), width, height)
        if isinstance(checked, str):
            faults.add(checked, place, f"bbox {entry.get('bbox')!r} in an image of {width}x{height} (width x height)")
            continue
        box, clipped = checked
        faults.clipped += clipped
        objects[image_id].append((box, label, bool(entry.get("iscrowd")), _area(entry.get("area"))))
    return objects


def _corners(bbox: Any) -> list[Any]:
    """xyxy from COCO's x, y, width, height; anything else comes back as one that `check_box` refuses."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(v) for v in bbox):
        return [NO_NUMBERS]
    x, y, w, h = bbox
    return [x, y, x + w, y + h]


def _area(value: Any) -> float | None:
    """The annotated area, by which COCO sizes objects; None where there is no usable one."""
    return float(value) if _is_number(value) and math.isfinite(value) and value > 0 else None


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
