"""Writes galleries, see `bcd.detections.gallery`: equal images give equal bytes, so that storage keeps one for all runs
on a data set.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from bcd.data.records import Dataset
from bcd.data.transforms import resize
from bcd.detections.gallery import CONTENTS, FILE, Contents, Picture, place_name
from bcd.sample import pick

PICTURES = 1000  # at most; spread evenly over the data set
LONGEST = 640  # pixels of a picture's longer side
QUALITY = 88
UNUSED = 30 * 86_400  # seconds
_VERSION = 1  # of what is drawn; another one makes kept files anew


def kept_gallery(
    dataset: Dataset, folder: Path, *, check: Callable[[], None] = lambda: None, pictures: int = PICTURES
) -> Path:
    """The gallery of a data set from a folder that keeps them, made first where it is not there.

    Galleries that no run has asked for in `UNUSED` go when another one is made. `check` is called between images and
    may raise. Raises `DataError` for an image that cannot be read, OSError for a folder that cannot be written.
    """
    path = folder / f"gallery-{dataset.content_hash[:32]}-{_VERSION}" / FILE
    if path.is_file():
        with contextlib.suppress(OSError):  # another user's file may be read, but not touched
            os.utime(path)
        return path
    for old in folder.glob(f"gallery-*/{FILE}"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > UNUSED:
                shutil.rmtree(old.parent)
    return write_gallery(dataset, path, check=check, pictures=pictures)


def write_gallery(
    dataset: Dataset, path: Path, *, check: Callable[[], None] = lambda: None, pictures: int = PICTURES
) -> Path:
    """Write the gallery of at most so many images; it appears whole or not at all. As `kept_gallery`."""
    shown = pick(dataset, pictures)
    contents = Contents(
        data_hash=dataset.content_hash,
        class_names=list(dataset.class_names),
        whole=len(dataset),
        images=[
            Picture(
                id=one.id,
                file_name=one.file_name,
                width=one.width,
                height=one.height,
                boxes=one.boxes.round(2).tolist(),
                labels=one.labels.tolist(),
                ignore=one.ignore.tolist(),
            )
            for one in shown.records
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(aside, "w") as archive:
            _add(archive, CONTENTS, contents.model_dump_json().encode())
            for place in range(len(shown)):
                check()
                _add(archive, place_name(place), _jpeg(shown, place))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), content)  # dated 1980, whenever it is written


def _jpeg(dataset: Dataset, place: int) -> bytes:
    image = dataset.load_image(place)
    height, width = image.shape[:2]
    scale = LONGEST / max(height, width)
    if scale < 1:
        image = resize(image, (max(1, round(height * scale)), max(1, round(width * scale))))
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()
