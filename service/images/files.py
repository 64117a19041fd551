"""The stored files of a run that its images are shown from: its predictions, and the gallery of its data set."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from bcd.detections.disagreement import View
from bcd.detections.errors import FOREGROUND, Errors, find_errors
from bcd.detections.files import PredictionsError, Stored, read_stored
from bcd.detections.flat import Found, Truth, flat_of
from bcd.detections.gallery import Gallery, GalleryError, read_gallery, read_picture
from service.access.principal import Principal
from service.artifacts.service import require_stored, storage_faults
from service.errors import Problem
from service.jobs.service import existing as existing_job
from service.models import Artifact
from service.settings import Settings

_BLOCK = 256 * 1024  # bytes asked of storage at a time
# Kept in memory, those used last. Predictions of 5,000 images have some 30 MB, what is left of them on the pictures
# above a score a few.
_LOOKS, _PREDICTIONS, _GALLERIES = 16, 2, 8


@dataclass(frozen=True)
class RunFiles:
    """A run with both files; plain values, so that the database is not held while storage is asked."""

    job_id: str
    name: str
    predictions: Artifact
    gallery: Artifact


@dataclass(frozen=True)
class Threshold:
    """Which detections exist (score), when one has found an object (IoU), and the one class that counts, if any."""

    score: float
    iou: float
    label: str | None = None


@dataclass(frozen=True)
class Look:
    """What a run sees on the pictures. `errors` only at the IoU at which error types are defined."""

    view: View
    errors: Errors | None


def find(session: Session, me: Principal, job_id: str) -> RunFiles:
    """The files of a run. Raises `Problem` 404: no such job, or it has no pictures."""
    job = existing_job(session, me, job_id)
    kinds = ("predictions", "gallery")
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.type.in_(kinds)).order_by(Artifact.step)
    found = {row.type: row for row in session.scalars(query)}
    if missing := [kind for kind in kinds if kind not in found]:
        why = "it stored none" if job.state == "succeeded" else f"it is {job.state}; they come with its result"
        what = "pictures" if missing == ["gallery"] else "predictions"
        raise Problem(404, f"job {job_id} has no {what} to show: {why}")
    for row in found.values():
        session.expunge(row)
    return RunFiles(job_id, job.name, found["predictions"], found["gallery"])


def gallery_of(settings: Settings, run: RunFiles) -> Gallery:
    """Raises `Problem` 410 or 503."""
    return _gallery(_Key(settings, run.gallery))


def place_of(gallery: Gallery, image: int) -> int:
    """Where an image is in a gallery. Raises `Problem` 404."""
    try:
        return gallery.truth.ids.index(image)
    except ValueError:
        kept = len(gallery.truth.ids)
        raise Problem(404, f"there is no picture of image {image}: {kept} of {gallery.whole} were kept") from None


def picture_of(settings: Settings, run: RunFiles, place: int) -> bytes:
    """The JPEG at a place of the run's gallery. Raises `Problem` 410 or 503."""
    with _faults(run.gallery):
        return read_picture(_Key(settings, run.gallery).open(), place)


def look_of(settings: Settings, run: RunFiles, shown: RunFiles, at: Threshold) -> Look:
    """What a run sees on the pictures that are shown. Raises `Problem` 409: its predictions are of other data."""
    return _look(_Key(settings, run.predictions), _Key(settings, shown.gallery), run.name, at)


class _Key:
    """A stored file as a cache knows it: by its content."""

    def __init__(self, settings: Settings, row: Artifact):
        self.settings, self.row = settings, row

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.row.sha256 == other.row.sha256

    def __hash__(self) -> int:
        return hash(self.row.sha256)

    def open(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Remote(self), _BLOCK))


class _Remote(io.RawIOBase):
    """A stored file from which any part can be read, wherever storage is."""

    def __init__(self, key: _Key):
        self._row, self._at = key.row, 0
        self._store = require_stored(key.settings, key.row)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._row.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._row.size, self._at + len(buffer))
        if end <= self._at:
            return 0
        with storage_faults(self._row):
            content = b"".join(self._store.read(self._row.key, self._at, end))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


@contextlib.contextmanager
def _faults(row: Artifact) -> Iterator[None]:
    """What a damaged file raises, as a problem."""
    try:
        yield
    except (GalleryError, PredictionsError) as error:
        raise Problem(410, f"artifact {row.id} of job {row.job_id}: {error}") from error


@functools.lru_cache(_GALLERIES)
def _gallery(key: _Key) -> Gallery:
    with _faults(key.row):
        return read_gallery(key.open())


@functools.lru_cache(_PREDICTIONS)
def _stored(key: _Key) -> Stored:
    with _faults(key.row):
        return read_stored(key.open(), key.row.name)


@functools.lru_cache(_LOOKS)
def _look(predictions: _Key, gallery: _Key, name: str, at: Threshold) -> Look:
    shown, stored = _gallery(gallery), _stored(predictions)
    if stored.data_hash != shown.data_hash or stored.class_names != shown.truth.class_names:
        owner, other = predictions.row.job_id, gallery.row.job_id
        raise Problem(
            409, f"jobs {owner} and {other} were judged on different images, so they cannot be shown together"
        )
    found = stored.on(shown.truth.ids, score=at.score)
    truth = shown.truth
    if at.label is not None:
        truth, found = _only(truth, found, class_of(truth, at.label))
    view = View.of(name, flat_of(truth, found), score=at.score, iou=at.iou)
    return Look(view, find_errors(view.flat, view.matches) if at.iou == FOREGROUND else None)


def class_of(truth: Truth, name: str) -> int:
    """Raises `Problem` 422."""
    if name not in truth.class_names:
        message = f"the data set has no class {name!r}; it has {', '.join(truth.class_names[:20])}"
        raise Problem(422, f"label: {message}", errors=[("?label", message)])
    return truth.class_names.index(name)


def _only(truth: Truth, found: Found, label: int) -> tuple[Truth, Found]:
    """One class alone. Objects keep their places: the others are ignored, and no detection is left to meet them."""
    keep = found.label_D == label
    left = Found(found.image_D[keep], found.box_D4[keep], found.score_D[keep], found.label_D[keep])
    ignore_G = truth.ignore_G | (truth.label_G != label)
    return (
        Truth(truth.class_names, truth.ids, truth.file_names, truth.image_G, truth.box_G4, truth.label_G, ignore_G),
        left,
    )
