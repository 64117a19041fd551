"""Reads a data set in Pascal VOC form: JPEGImages/, Annotations/ and ImageSets/Main/<split>.txt under one root."""

from __future__ import annotations

from pathlib import Path

from bcd.data.images import FileDataset, PixelCache, check_root, keep_checked, stays_below
from bcd.data.records import (
    DUPLICATE,
    NO_IMAGE,
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
from bcd.data.xml_lines import Element, XmlError, read_xml
from bcd.spec import VocData

SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp")
NO_ANNOTATION = "missing annotation file"
NO_PARSE = "annotation does not parse"


def open_voc(spec: VocData, progress: Progress | None = None) -> Splits:
    """Both splits of a VOC folder. Raises `DataError`."""
    root, cache = _check_folders(spec), PixelCache()
    train = _read_split(spec, root, "train", spec.train_split, cache, progress)
    val = _read_split(spec, root, "val", spec.val_split, cache, progress)
    return Splits(train, val)


def open_voc_val(spec: VocData, progress: Progress | None = None) -> FileDataset:
    """The validation split alone. Raises `DataError`."""
    return _read_split(spec, _check_folders(spec), "val", spec.val_split, PixelCache(), progress)


def _check_folders(spec: VocData) -> Path:
    root = check_root(spec.root)
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        if not (root / folder).is_dir():
            raise DataError(f"no such folder: {root / folder}; data.root needs Annotations, JPEGImages, ImageSets")
    return root


def _read_split(
    spec: VocData, root: Path, role: str, split: str, cache: PixelCache, progress: Progress | None
) -> FileDataset:
    names_file, names = _read_names(root, role, split)
    faults = Faults(spec.on_invalid)
    found: list[tuple[ImageRecord, Path, Place]] = []
    seen: set[str] = set()
    for line, name in names:
        if name in seen:
            faults.add(DUPLICATE, f"{names_file}:{line}", repr(name))
            continue
        seen.add(name)
        if not stays_below(name):
            faults.add(NO_ANNOTATION, f"{names_file}:{line}", f"bad name {name!r}")
            continue
        # VOC calls an object difficult when it should not count; keep_difficult is about training only.
        ignore_difficult = role == "val" or not spec.keep_difficult
        item = _read_image(root, name, f"{names_file}:{line}", len(found), spec.classes, ignore_difficult, faults)
        if item is not None:
            found.append(item)
    records, paths = keep_checked(found, faults, role, progress)
    dataset = FileDataset(spec.classes, records, paths, faults=faults, cache=cache)
    if not records:
        raise DataError(f"{names_file}: no usable image in the {role} split (skipped: {dataset.skipped or 'none'})")
    return dataset


def _read_names(root: Path, role: str, split: str) -> tuple[Path, list[tuple[int, str]]]:
    """The split list and its (line, name) pairs."""
    folder = root / "ImageSets" / "Main"
    path = folder / f"{split}.txt"
    if not stays_below(split) or not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.txt"))) or "none"
        raise DataError(f"no such split list: {path}; set data.{role}_split to one of: {known}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    names = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    if not names:
        raise DataError(f"{path}: the {role} split is empty; it needs one image name on each line")
    return path, names


def _read_image(
    root: Path,
    name: str,
    listed: str,
    id: int,
    classes: tuple[str, ...],
    ignore_difficult: bool,
    faults: Faults,
) -> tuple[ImageRecord, Path, Place] | None:
    xml = root / "Annotations" / f"{name}.xml"
    if not xml.is_file():
        faults.add(NO_ANNOTATION, listed, str(xml))
        return None
    try:
        top = read_xml(xml)
    except XmlError as error:
        faults.add(NO_PARSE, f"{xml}:{error.line}" if error.line else str(xml), str(error))
        return None
    size = top.find("size")
    width, height = (_positive_int(size.value(key)) if size else None for key in ("width", "height"))
    if width is None or height is None:
        at = (size or top).line
        faults.add(NO_SIZE, f"{xml}:{at}", "needs <size> with <width> and <height> above 0")
        return None
    path = _find_image(root / "JPEGImages", name, top)
    if path is None:
        where = root / "JPEGImages" / f"{name}.jpg"
        faults.add(NO_IMAGE, f"{xml}:{top.line}", f"{where} (also tried {', '.join(SUFFIXES[1:])})")
        return None
    objects = []
    for element in top.find_all("object"):
        kept = _read_object(element, xml, width, height, classes, ignore_difficult, faults)
        if kept is not None:
            objects.append(kept)
    record = make_record(id, path.name, width, height, objects)
    return record, path, f"{xml}:{(size or top).line}"


def _read_object(
    element: Element,
    xml: Path,
    width: int,
    height: int,
    classes: tuple[str, ...],
    ignore_difficult: bool,
    faults: Faults,
) -> tuple[Box, int, bool, None] | None:
    name = element.value("name") or ""
    if name not in classes:
        at = (element.find("name") or element).line
        shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        faults.add(UNKNOWN_CLASS, f"{xml}:{at}", f"{name!r} is not in data.classes ({shown})")
        return None
    frame = element.find("bndbox")
    texts = [frame.value(key) if frame else None for key in ("xmin", "ymin", "xmax", "ymax")]
    checked = check_box(_half_open(texts), width, height)
    if isinstance(checked, str):
        at = (frame or element).line
        faults.add(checked, f"{xml}:{at}", f"{name} (xmin, ymin, xmax, ymax) = ({', '.join(map(str, texts))})")
        return None
    box, clipped = checked
    faults.clipped += clipped
    difficult = element.value("difficult") in ("1", "true", "True")
    return box, classes.index(name), difficult and ignore_difficult, None


def _half_open(texts: list[str | None]) -> list[float]:
    """VOC corners are 1-based and inclusive; ours are 0-based and half-open.

    Equal corners would be one pixel wide by that rule, but in practice they are slips of the mouse: no area.
    """
    try:
        x1, y1, x2, y2 = (float(t) for t in texts if t is not None)
    except ValueError:
        return []
    if x2 <= x1 or y2 <= y1:
        return [x1, y1, x1, y1]
    return [x1 - 1, y1 - 1, x2, y2]


def _find_image(folder: Path, name: str, top: Element) -> Path | None:
    candidates = [f"{name}{suffix}" for suffix in SUFFIXES]
    named = top.value("filename")
    if named and stays_below(named):
        candidates.append(named)
    return next((folder / c for c in candidates if (folder / c).is_file()), None)


def _positive_int(text: str | None) -> int | None:
    try:
        value = int(float(text or ""))
    except (ValueError, OverflowError):
        return None
    return value if value > 0 else None
