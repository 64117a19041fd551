"""A file of predictions as plain arrays, checked; `bcd.eval.predictions` says what is in it and writes it."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bcd.detections.flat import Floats, Found, Ints

FORMAT = "bcd-predictions-1"
MOST_BYTES = 2 * 1024**3  # unpacked; 100 detections on a million images
# A header may claim any size, an encryption or an unknown compression; memory is asked for before a value is read.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


class PredictionsError(ValueError):
    """A file of predictions that cannot be used, with the reason."""


@dataclass(frozen=True)
class Stored:
    """Detections of B images, `count_B` of each, in their order; boxes xyxy in pixels of the original images."""

    image_id_B: Ints
    count_B: Ints
    box_D4: Floats
    score_D: Floats
    label_D: Ints
    class_names: tuple[str, ...]
    data_hash: str
    protocol: str
    detector: str

    def on(self, image_ids: tuple[int, ...], *, score: float = 0.0) -> Found:
        """The detections with at least this score on some of the images, in the order given.

        Raises `PredictionsError` when one of the images is not among them.
        """
        place = {int(image_id): i for i, image_id in enumerate(self.image_id_B)}
        missing = next((image_id for image_id in image_ids if image_id not in place), None)
        if missing is not None:
            raise PredictionsError(f"the predictions know no image {missing}: they were made on other data")
        new_B = np.full(len(self.image_id_B), -1)
        new_B[[place[image_id] for image_id in image_ids]] = np.arange(len(image_ids))
        image_D = np.repeat(new_B, self.count_B)
        keep = np.flatnonzero((image_D >= 0) & (self.score_D >= score))
        keep = keep[np.argsort(image_D[keep], kind="stable")]
        return Found(image_D[keep], self.box_D4[keep], self.score_D[keep], self.label_D[keep])


def read_stored(file: Path | BinaryIO, name: str) -> Stored:
    """Read a file of predictions; `name` is what errors call it. Raises `PredictionsError`."""
    try:
        with zipfile.ZipFile(file) as parts:
            if sum(part.file_size for part in parts.infolist()) > MOST_BYTES:
                raise PredictionsError(f"{name} would unpack to more than {MOST_BYTES >> 30} GiB")
        if not isinstance(file, Path):
            file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            about = json.loads(bytes(arrays["about"]))
            image_id, count, box, score, label = (arrays[key] for key in ("image_id", "count", "box", "score", "label"))
        if about["format"] != FORMAT:
            raise PredictionsError(f"{name} has the form {about['format']!r}; this version reads {FORMAT!r}")
        names = tuple(str(one) for one in about["class_names"])
        data_hash, protocol, detector = str(about["data_hash"]), str(about["protocol"]), str(about["detector"])
    except _DAMAGE as error:
        if isinstance(error, PredictionsError):
            raise
        raise PredictionsError(f"{name} is damaged or no file of predictions: {error}") from None
    total = len(score)
    if not (
        count.shape == image_id.shape == (len(count),)
        and (count >= 0).all()
        and count.sum() == total
        and score.shape == label.shape == (total,)
        and box.shape == (total, 4)
    ):
        raise PredictionsError(f"{name} is damaged: its arrays do not fit each other")
    if not (np.isfinite(box).all() and np.isfinite(score).all()):
        raise PredictionsError(f"{name} holds a box or score that is not finite")
    if total and not (label.min() >= 0 and label.max() < len(names)):
        raise PredictionsError(f"{name} holds a class index outside its {len(names)} classes")
    return Stored(
        image_id.astype(np.int64),
        count.astype(np.int64),
        box.astype(np.float64),
        score.astype(np.float64),
        label.astype(np.int64),
        names,
        data_hash,
        protocol,
        detector,
    )
