"""Finds out in which form a folder holds a data set, where no spec says so."""

from __future__ import annotations

import json
from pathlib import Path

from bcd.data.images import stays_below
from bcd.data.records import DataError
from bcd.data.xml_lines import XmlError, read_xml
from bcd.spec import CocoData, VocData, YoloData

TRAIN, VAL = "train", ("val", "valid", "validation", "test")
SPEC_HINT = "write a spec with a `data` block and give that"


def guess_data(folder: Path) -> CocoData | VocData | YoloData | None:
    """The data block for a folder in VOC, COCO or YOLO form; None for one that holds images alone.

    Raises `DataError` where the form is known and a part of it is missing.
    """
    if not folder.is_dir():
        raise DataError(f"no such file or folder: {folder}; give a spec or the folder of a data set")
    if (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir():
        return _voc(folder)
    return _coco(folder) or _yolo(folder)


def _voc(folder: Path) -> VocData:
    lists = {path.stem for path in (folder / "ImageSets" / "Main").glob("*.txt")}
    val = next((name for name in VAL if name in lists), None)
    if TRAIN not in lists or val is None:
        raise DataError(f"{folder}: ImageSets/Main has no train.txt and val.txt; {SPEC_HINT}")
    names: set[str] = set()
    for path in sorted((folder / "Annotations").glob("*.xml")):
        try:
            names |= {item.value("name") or "" for item in read_xml(path).find_all("object")}
        except XmlError:
            continue  # the reader names it
    classes = sorted(names - {""})
    if not classes:
        raise DataError(f"{folder}: no object in any file of Annotations; {SPEC_HINT}")
    return VocData(type="voc", root=str(folder), classes=tuple(classes), val_split=val)


def _coco(folder: Path) -> CocoData | None:
    """Annotations may lie in the folder, in annotations/, or beside each split's images."""
    files = [*folder.glob("*.json"), *folder.glob("annotations/*.json"), *folder.glob("*/*.json")]
    named = {file: f"{file.parent.name}/{file.stem}".lower() for file in sorted(set(files))}
    train = _best(named, (TRAIN,))
    val = _best(named, VAL)
    if train is None or val is None or train == val:
        return None
    folders = [_image_folder(folder, file) for file in (train, val)]
    return CocoData(
        type="coco",
        root=str(folder),
        train_annotations=str(train.relative_to(folder)),
        train_folder=folders[0],
        val_annotations=str(val.relative_to(folder)),
        val_folder=folders[1],
    )


def _best(named: dict[Path, str], words: tuple[str, ...]) -> Path | None:
    """The annotation file that one of the words names; COCO's files of boxes before its captions and keypoints."""
    for word in words:
        found = [file for file, name in named.items() if word in name and _is_coco(file)]
        if found:
            return min(found, key=lambda file: ("instances" not in file.stem, len(file.parts), str(file)))
    return None


def _is_coco(file: Path) -> bool:
    """Whether the file begins or ends like one; large files are not read in full for that."""
    if any(word in file.stem for word in ("captions", "keypoints", "panoptic", "image_info")):
        return False
    with file.open("rb") as stream:
        head = stream.read(4096)
        stream.seek(max(0, stream.seek(0, 2) - 65536))
        text = head + stream.read()
    return any(key in text for key in (b'"annotations"', b'"categories"', b'"images"'))


def _image_folder(folder: Path, file: Path) -> str:
    """The folder below which the first image of an annotation file lies."""
    try:
        name = json.loads(file.read_text(encoding="utf-8-sig"))["images"][0]["file_name"]
    except (OSError, ValueError, LookupError, TypeError):
        name = None  # the reader says what is wrong with the file
    if isinstance(name, str) and stays_below(name):
        places = [file.parent, folder, *(path for path in sorted(folder.glob("*")) if path.is_dir())]
        places += [path for path in sorted(folder.glob("*/*")) if path.is_dir()]
        for place in places:
            if (place / name).is_file():
                return str(place.relative_to(folder))
    return str(file.parent.relative_to(folder))


def _yolo(folder: Path) -> YoloData | None:
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        text = file.read_text(encoding="utf-8-sig", errors="replace")
        if "names" in text and "train" in text:
            return YoloData(type="yolo", root=str(folder), data_file=file.name)
    for layout in ("images/{}", "{}/images"):
        train = layout.format(TRAIN)
        val = next((layout.format(name) for name in VAL if (folder / layout.format(name)).is_dir()), None)
        if (folder / train).is_dir() and val is not None and any(folder.rglob("labels")):
            classes = tuple(str(n) for n in range(_most_class(folder) + 1))
            return YoloData(type="yolo", root=str(folder), classes=classes, train=train, val=val)
    return None


def _most_class(folder: Path) -> int:
    """The highest class index of all label files: without a data.yaml nothing else says how many classes there are."""
    most = 0
    for file in folder.rglob("labels/**/*.txt"):
        for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            first = line.split()[:1]
            if first and first[0].isdecimal():
                most = max(most, min(int(first[0]), 1999))
    return most
