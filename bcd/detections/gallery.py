"""A gallery: pictures of validation images and their objects as one file, so that detections can be looked at where
the data set is not. A zip archive without compression, so that a picture can be read by itself:
    gallery.json    format, data_hash, class_names, whole (images of the data set), images: for each id, file_name,
                    width, height (pixels of the original), boxes (xyxy in those pixels), labels, ignore
    0000.jpg, ...   a picture of each, perhaps smaller than the original, in the same order
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from typing import Annotated, BinaryIO

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from bcd.detections.flat import Truth

FORMAT, FILE, CONTENTS = "bcd-gallery-1", "validation-images.zip", "gallery.json"
MOST_BYTES = 64 * 2**20  # of the contents, or of one picture

_Box = tuple[float, float, float, float]
_Label = Annotated[int, Field(ge=0)]


class Picture(BaseModel):
    id: int
    file_name: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    boxes: list[_Box]
    labels: list[_Label]
    ignore: list[bool]


class Contents(BaseModel):
    """What `gallery.json` says."""

    format: str = FORMAT
    data_hash: str
    class_names: list[str]
    whole: int
    images: list[Picture]


class GalleryError(ValueError):
    """A gallery that cannot be used, with the reason."""


@dataclass(frozen=True)
class Gallery:
    """`whole` is how many images the data set has; `pictures` are those that are shown, with their objects."""

    data_hash: str
    whole: int
    pictures: tuple[Picture, ...]
    truth: Truth


def place_name(place: int) -> str:
    """The name of a picture inside the archive."""
    return f"{place:04}.jpg"


def read_gallery(file: BinaryIO) -> Gallery:
    """Everything but the pictures. Raises `GalleryError` for a file that is damaged or no gallery."""
    try:
        contents = Contents.model_validate(json.loads(_member(file, CONTENTS)))
    except (ValueError, ValidationError) as error:
        raise GalleryError(f"no gallery, or a damaged one: {error}") from None
    if contents.format != FORMAT:
        raise GalleryError(f"the gallery has the form {contents.format!r}; this version reads {FORMAT!r}")
    images, classes = contents.images, len(contents.class_names)
    for one in images:
        if not len(one.boxes) == len(one.labels) == len(one.ignore) or any(label >= classes for label in one.labels):
            raise GalleryError(f"a damaged gallery: the objects of image {one.id} do not fit each other")
    counts = [len(one.labels) for one in images]
    truth = Truth(
        class_names=tuple(contents.class_names),
        ids=tuple(one.id for one in images),
        file_names=tuple(one.file_name for one in images),
        image_G=np.repeat(np.arange(len(images)), counts),
        box_G4=np.asarray([box for one in images for box in one.boxes], np.float64).reshape(-1, 4),
        label_G=np.asarray([label for one in images for label in one.labels], np.int64),
        ignore_G=np.asarray([flag for one in images for flag in one.ignore], np.bool_),
    )
    return Gallery(contents.data_hash, contents.whole, tuple(images), truth)


def read_picture(file: BinaryIO, place: int) -> bytes:
    """The JPEG of the picture at a place. Raises `GalleryError`."""
    return _member(file, place_name(place))


def _member(file: BinaryIO, name: str) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo(name).file_size > MOST_BYTES:
                raise GalleryError(f"{name} has more than {MOST_BYTES >> 20} MiB")
            return archive.read(name)
    except GalleryError:
        raise
    except (OSError, KeyError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        raise GalleryError(f"no gallery, or a damaged one: {error}") from None
