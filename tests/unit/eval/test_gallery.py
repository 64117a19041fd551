"""Pictures of a data set as one file: what is in it, that it is always the same, and what damage does."""

from __future__ import annotations

import io
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcd.data.records import DataError
from bcd.detections.files import PredictionsError, read_stored
from bcd.detections.gallery import CONTENTS, GalleryError, read_gallery, read_picture
from bcd.eval.flatten import truth_of
from bcd.eval.gallery import kept_gallery, write_gallery
from tests.helpers.pictures import SIDE, Drawn, gallery_bytes, predictions_bytes, seen


def test_a_gallery_holds_every_image_with_its_objects(tmp_path: Path) -> None:
    data = Drawn()
    with write_gallery(data, tmp_path / "g.zip").open("rb") as file:
        gallery = read_gallery(file)
        picture = np.asarray(Image.open(io.BytesIO(read_picture(file, 5))))
    assert (gallery.whole, len(gallery.pictures), gallery.data_hash) == (12, 12, data.content_hash)
    truth, own = gallery.truth, truth_of(data)
    assert (truth.class_names, truth.ids, truth.file_names) == (own.class_names, own.ids, own.file_names)
    assert np.abs(truth.box_G4 - own.box_G4).max() < 0.01
    assert truth.label_G.tolist() == own.label_G.tolist()
    assert truth.image_G.tolist() == own.image_G.tolist()
    assert picture.shape == (SIDE, SIDE, 3)
    assert np.abs(picture.astype(int) - data.load_image(5)).mean() < 3  # a JPEG


def test_equal_images_give_equal_bytes() -> None:
    assert gallery_bytes(Drawn()) == gallery_bytes(Drawn())
    assert gallery_bytes(Drawn()) != gallery_bytes(Drawn(seed=1))


def test_of_many_images_some_are_taken_evenly_and_large_ones_are_made_smaller(tmp_path: Path) -> None:
    class Large(Drawn):
        def load_image(self, i: int):
            return np.zeros((1200, 2000, 3), np.uint8)

    with write_gallery(Large(30), tmp_path / "g.zip", pictures=3).open("rb") as file:
        gallery = read_gallery(file)
        picture = Image.open(io.BytesIO(read_picture(file, 0)))
    assert gallery.truth.ids == (105, 115, 125)
    assert gallery.whole == 30
    assert picture.size == (640, 384)


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    first = kept_gallery(Drawn(), tmp_path)
    before = first.stat().st_ino
    assert kept_gallery(Drawn(), tmp_path) == first
    assert first.stat().st_ino == before  # not written again
    assert kept_gallery(Drawn(seed=1), tmp_path) != first


def test_galleries_that_nobody_asks_for_go_after_a_month(tmp_path: Path) -> None:
    old, used = kept_gallery(Drawn(), tmp_path), kept_gallery(Drawn(seed=1), tmp_path)
    month = time.time() - 31 * 86_400
    for path in (old, used):
        os.utime(path, (month, month))
    assert kept_gallery(Drawn(seed=1), tmp_path) == used  # asked for: young again
    kept_gallery(Drawn(seed=2), tmp_path)
    assert used.is_file()
    assert not old.parent.exists()


def test_an_image_that_cannot_be_read_leaves_nothing_behind(tmp_path: Path) -> None:
    class Broken(Drawn):
        def load_image(self, i: int):
            raise DataError("field-00.png cannot be read")

    with pytest.raises(DataError, match="field-00"):
        write_gallery(Broken(), tmp_path / "g.zip")
    assert list(tmp_path.iterdir()) == []


def _with(contents: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(CONTENTS, contents)
    return file


@pytest.mark.parametrize(
    "file",
    [
        io.BytesIO(b""),
        io.BytesIO(b"no archive"),
        io.BytesIO(gallery_bytes(Drawn(2))[:-30]),
        _with(b"{"),
        _with(b'{"data_hash": "x"}'),
        _with(b'{"format": "bcd-gallery-9", "data_hash": "x", "class_names": [], "whole": 0, "images": []}'),
        _with(
            b'{"data_hash": "x", "class_names": ["a"], "whole": 1, "images": [{"id": 1, "file_name": "a", "width": 1,'
            b' "height": 1, "boxes": [[0, 0, 1, 1]], "labels": [1], "ignore": [false]}]}'
        ),
    ],
)
def test_damage_is_told(file: io.BytesIO) -> None:
    with pytest.raises(GalleryError):
        read_gallery(file)


def test_a_picture_that_is_not_there_is_told() -> None:
    with pytest.raises(GalleryError):
        read_picture(io.BytesIO(gallery_bytes(Drawn(2))), 2)


def test_predictions_are_read_for_some_of_the_images() -> None:
    data = Drawn()
    stored = read_stored(io.BytesIO(predictions_bytes(data, seen(data, missed={(3, 0)}))), "p.npz")
    found = stored.on((103, 101), score=0.7)
    assert found.image_D.tolist() == [0, 0, 1]  # of the three that are left of image 103 one is below the score
    assert np.abs(found.box_D4[2] - (data.records[1].boxes[0] + 1)).max() < 0.01
    with pytest.raises(PredictionsError, match="know no image 7"):
        stored.on((7,))
    with pytest.raises(PredictionsError, match=r"p\.npz is damaged"):
        read_stored(io.BytesIO(b"nothing"), "p.npz")
