"""Reading VOC folders: what comes out of a good one, and what is said about each fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcd.data import DataError, open_data
from bcd.spec import VocData
from tests.helpers.tiny_sets import CLASSES, scene, voc_xml, write_tiny_voc


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    return write_tiny_voc(tmp_path)


def spec(data: dict[str, Any], **changes: Any) -> VocData:
    return VocData.model_validate(data | changes)


def edit(data: dict[str, Any], old: str, new: str, name: str = "img001") -> Path:
    """Replace text in an annotation that then differs."""
    path = Path(data["root"]) / "Annotations" / f"{name}.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def refused(data: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_data(spec(data, **changes))
    return str(caught.value)


def skipped(data: dict[str, Any]) -> dict[str, int]:
    return open_data(spec(data, on_invalid="skip")).train.skipped


def test_boxes_come_out_zero_based_and_half_open(data: dict[str, Any]) -> None:
    splits = open_data(spec(data))
    assert (len(splits.train), len(splits.val)) == (4, 2)
    assert splits.train.class_names == splits.val.class_names == CLASSES
    for n, record in enumerate(splits.train.records):
        _, objects = scene(n, 64, 48)
        assert [(CLASSES[c], tuple(b)) for c, b in zip(record.labels, record.boxes.tolist(), strict=True)] == objects
        assert (record.width, record.height) == (64, 48)
        assert not record.ignore.any()
    assert splits.train.skipped == {}
    assert splits.train.clipped == 0


def test_pixels_under_a_box_have_the_colour_of_its_class(data: dict[str, Any]) -> None:
    train = open_data(spec(data)).train
    for i, record in enumerate(train.records):
        x1, y1, x2, y2 = record.boxes[-1].astype(int)  # the last one lies on top
        inside = train.load_image(i)[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean((0, 1))
        assert inside.argmax() == record.labels[-1]


def test_a_box_without_area_is_named_by_file_and_line(data: dict[str, Any]) -> None:
    path = Path(data["root"]) / "Annotations" / "img001.xml"
    lines = voc_xml("img001", 64, 48, [("red", (4, 4, 5, 20))]).splitlines()
    path.write_text("\n".join(lines))
    message = refused(data)
    assert f"{path}:{lines.index('    <bndbox>') + 1}: box without area" in message
    assert "on_invalid: skip" in message
    assert skipped(data) == {"box without area": 1}
    assert len(open_data(spec(data, on_invalid="skip")).train.records[1].labels) == 0


def test_an_unknown_class_names_the_known_ones(data: dict[str, Any]) -> None:
    path = Path(data["root"]) / "Annotations" / "img001.xml"
    path.write_text(voc_xml("img001", 64, 48, [("violet", (4, 4, 20, 20)), ("red", (4, 4, 20, 20))]))
    assert f"{path}:8: unknown class: 'violet' is not in data.classes (red, green, blue)" in refused(data)
    assert skipped(data) == {"unknown class": 1}
    assert len(open_data(spec(data, on_invalid="skip")).train.records[1].labels) == 1


def test_a_box_partly_outside_is_clipped_and_counted(data: dict[str, Any]) -> None:
    path = Path(data["root"]) / "Annotations" / "img001.xml"
    path.write_text(voc_xml("img001", 64, 48, [("red", (-3, 10, 20, 60))]))
    train = open_data(spec(data)).train
    assert train.records[1].boxes.tolist() == [[0, 10, 20, 48]]
    assert train.clipped == 1


def test_a_box_entirely_outside_is_a_fault(data: dict[str, Any]) -> None:
    path = Path(data["root"]) / "Annotations" / "img001.xml"
    path.write_text(voc_xml("img001", 64, 48, [("red", (64, 0, 80, 20))]))
    assert "box outside the image" in refused(data)
    assert skipped(data) == {"box outside the image": 1}


@pytest.mark.parametrize("value", ["", "nan", "inf", "12a"])
def test_a_corner_that_is_no_number_is_a_fault(data: dict[str, Any], value: str) -> None:
    path = Path(data["root"]) / "Annotations" / "img001.xml"
    path.write_text(voc_xml("img001", 64, 48, [("red", (4, 4, 20, 20))]).replace("<xmin>5<", f"<xmin>{value}<"))
    assert "box is not four finite numbers" in refused(data)


def test_an_annotation_without_size_is_a_fault(data: dict[str, Any]) -> None:
    path = edit(data, "<width>64</width>", "")
    assert f"{path}:3: annotation without image size" in refused(data)
    assert skipped(data) == {"annotation without image size": 1}


def test_a_size_that_differs_from_the_file_is_a_fault(data: dict[str, Any]) -> None:
    path = edit(data, "<width>64</width>", "<width>48</width>")
    message = refused(data)
    assert str(path) in message
    assert "file 64x48, annotation 48x48" in message
    assert skipped(data) == {"image size differs from the annotation": 1}


def test_a_turned_photo_gets_a_hint_about_exif(data: dict[str, Any]) -> None:
    edit(data, "<width>64</width>", "<width>48</width>")
    edit(data, "<height>48</height>", "<height>64</height>")
    path = Path(data["root"]) / "Annotations" / "img001.xml"
    path.write_text(path.read_text().split("  <object>")[0] + "</annotation>")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(Path(data["root"]) / "JPEGImages" / "img001.jpg", exif=exif)
    assert "EXIF rotation" in refused(data)


def test_xml_that_does_not_parse_names_its_line(data: dict[str, Any]) -> None:
    path = edit(data, "</size>", "</siez>")
    assert f"{path}:6: annotation does not parse: mismatched tag" in refused(data)
    assert skipped(data) == {"annotation does not parse": 1}


def test_entity_declarations_are_refused(data: dict[str, Any]) -> None:
    edit(data, "<annotation>", '<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation>')
    assert "entity declarations are not accepted" in refused(data)


def test_missing_and_broken_images_are_faults(data: dict[str, Any]) -> None:
    images = Path(data["root"]) / "JPEGImages"
    (images / "img000.jpg").unlink()
    (images / "img001.jpg").write_bytes(b"not an image")
    message = refused(data)
    assert "missing image file" in message
    assert "img000.jpg" in message
    assert skipped(data) == {"missing image file": 1, "image does not open": 1}


def test_a_truncated_image_is_found_when_the_set_is_opened(data: dict[str, Any]) -> None:
    path = Path(data["root"]) / "JPEGImages" / "img002.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert "image does not open" in refused(data)
    assert "img002.jpg" in refused(data)
    splits = open_data(spec(data, on_invalid="skip"))
    assert splits.train.skipped == {"image does not open": 1}
    assert [r.file_name for r in splits.train.records] == ["img000.jpg", "img001.jpg", "img003.jpg"]


def test_an_image_that_breaks_later_is_named_when_decoded(data: dict[str, Any]) -> None:
    train = open_data(spec(data)).train
    path = Path(data["root"]) / "JPEGImages" / "img000.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"img000\.jpg: the image cannot be decoded"):
        train.load_image(0)


def test_sixteen_bit_images_are_refused(data: dict[str, Any]) -> None:
    images = Path(data["root"]) / "JPEGImages"
    (images / "img000.jpg").unlink()
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(images / "img000.png")
    assert "convert it to 8 bits" in refused(data)


def test_grey_images_become_rgb(data: dict[str, Any]) -> None:
    path = Path(data["root"]) / "JPEGImages" / "img000.jpg"
    Image.open(path).convert("L").save(path)
    image = open_data(spec(data)).train.load_image(0)
    assert image.shape == (48, 64, 3)
    assert (image[:, :, 0] == image[:, :, 2]).all()


def test_a_name_listed_twice_is_a_fault_at_its_line(data: dict[str, Any]) -> None:
    path = Path(data["root"]) / "ImageSets/Main/train.txt"
    path.write_text("img000\nimg001\nimg000\n")
    assert f"{path}:3: duplicate id" in refused(data)
    assert skipped(data) == {"duplicate id": 1}


def test_names_cannot_leave_the_data_folder(data: dict[str, Any]) -> None:
    (Path(data["root"]) / "ImageSets/Main/train.txt").write_text("../../secret\n")
    assert "bad name '../../secret'" in refused(data)
    assert "no such split list" in refused(data, train_split="../Main/train")


def test_only_the_first_faults_are_shown(data: dict[str, Any]) -> None:
    (Path(data["root"]) / "ImageSets/Main/train.txt").write_text("".join(f"gone{n}\n" for n in range(9)))
    message = refused(data)
    assert "9 faults" in message
    assert message.count("missing annotation file") == 5
    assert "and 4 more" in message


def test_missing_folders_and_lists_say_what_to_change(data: dict[str, Any], tmp_path: Path) -> None:
    assert refused(data, root=str(tmp_path / "nope")).startswith(f"no such folder: {tmp_path / 'nope'}; give data.root")
    assert "Annotations" in refused(data, root=str(tmp_path / "JPEGImages"))
    assert "set data.train_split to one of: train, val" in refused(data, train_split="trian")


def test_an_empty_split_is_refused_even_when_skipping(data: dict[str, Any]) -> None:
    path = Path(data["root"]) / "ImageSets/Main/val.txt"
    path.write_text("gone\n")
    assert "no usable image in the val split" in refused(data, on_invalid="skip")
    path.write_text("\n")
    assert "the val split is empty" in refused(data, on_invalid="skip")


def test_difficult_objects_are_ignored_unless_kept_for_training(data: dict[str, Any]) -> None:
    for name in ("img001", "img004"):
        path = Path(data["root"]) / "Annotations" / f"{name}.xml"
        path.write_text(voc_xml(name, 64, 48, [("red", (4, 4, 20, 20))], difficult=1))
    plain, kept = open_data(spec(data)), open_data(spec(data, keep_difficult=True))
    assert plain.train.records[1].ignore.tolist() == [True]
    assert plain.val.records[0].ignore.tolist() == [True]
    assert kept.train.records[1].ignore.tolist() == [False]
    assert kept.val.records[0].ignore.tolist() == [True]


def test_the_content_hash_follows_the_content(data: dict[str, Any]) -> None:
    before = open_data(spec(data)).train.content_hash
    assert open_data(spec(data)).train.content_hash == before
    edit(data, "<xmin>", "<xmin>1")
    edited = open_data(spec(data, on_invalid="skip")).train.content_hash
    assert edited != before


def test_what_was_left_out_is_reported(data: dict[str, Any]) -> None:
    (Path(data["root"]) / "JPEGImages" / "img000.jpg").unlink()
    (Path(data["root"]) / "ImageSets/Main/val.txt").write_text("img003\nimg004\n")
    said: list[str] = []
    open_data(spec(data, on_invalid="skip"), progress=said.append)
    assert "train: left out 1 x missing image file" in said
    assert any("1 images are in both train and val (such as img003.jpg)" in line for line in said)
