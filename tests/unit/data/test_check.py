"""The check of data sets: every fault is found and named, and a clean set has none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcd.data.check import BROKEN, LEAKED, LEAKED_UNLABELED, TWICE, UNREADABLE, Model, Report, check_data, check_folder
from bcd.data.guess import guess_data
from bcd.spec import CocoData, DigitsData, VocData
from tests.helpers.tiny_sets import scene, voc_xml, write_tiny_coco, write_tiny_voc


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tiny_voc(tmp_path)
    return tmp_path


def check(root: Path, pixels: bool = False, **changes: Any) -> Report:
    raw = {"type": "voc", "root": str(root), "classes": ["red", "green", "blue"], "image_size": [48, 64]}
    return check_data(VocData.model_validate({**raw, **changes}), pixels=pixels)


def found(report: Report) -> dict[tuple[str, str], int]:
    return {(fault.reason, fault.part): fault.count for fault in report.faults}


def image(root: Path, number: int) -> Path:
    return root / "JPEGImages" / f"img{number:03d}.jpg"


@pytest.mark.parametrize("pixels", [False, True])
def test_a_clean_set_has_no_fault_and_is_described(root: Path, pixels: bool) -> None:
    report = check(root, pixels)
    assert report.faults == ()
    assert report.as_json()["ok"]
    train = report.parts["train"]
    drawn = [name for n in range(4) for name, _ in scene(n, 64, 48)[1]]
    assert train.classes == {name: drawn.count(name) for name in ("red", "green", "blue")}
    assert (train.images, train.objects, train.background) == (4, len(drawn), 0)
    assert train.image_sizes == ((64, 48, 4),)
    for counts in (train.boxes, train.input_sides, train.levels):
        assert sum(counts.values()) == len(drawn)
    json.dumps(report.as_json())


def test_faults_of_the_reader_are_counted_with_their_places(root: Path) -> None:
    xml = root / "Annotations" / "img001.xml"
    boxes = [("red", (4, 4, 5, 20)), ("red", (70, 4, 90, 20)), ("violet", (4, 4, 20, 20))]
    xml.write_text(voc_xml("img001", 64, 48, boxes))  # type: ignore[arg-type]
    report = check(root)
    assert found(report) == {
        ("box without area", "train"): 1, ("box outside the image", "train"): 1, ("unknown class", "train"): 1,
    }  # fmt: skip
    assert all(len(fault.examples) == 1 and str(xml) in fault.examples[0] for fault in report.faults)
    assert report.parts["train"].background == 1


def test_lines_of_a_coco_file_are_named(tmp_path: Path) -> None:
    raw = write_tiny_coco(tmp_path)
    file = tmp_path / "train.json"
    lines = file.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if '"bbox"' in line)
    entry = json.loads(lines[at].rstrip(","))
    lines[at] = lines[at].replace(json.dumps(entry["bbox"]), "[1, 1, 0, 5]")
    file.write_text("\n".join(lines))
    (fault,) = check_data(CocoData.model_validate(raw)).faults
    assert fault.reason == "box without area"
    assert fault.examples[0].startswith(f"{file}:{at + 1}: ")


def test_the_same_image_in_train_and_val_is_found_under_another_name(root: Path) -> None:
    shutil.copy(image(root, 1), image(root, 5))
    report = check(root)
    assert found(report) == {(LEAKED, "train, val"): 1}
    assert report.faults[0].examples == ("train img001.jpg = val img005.jpg",)


def test_duplicates_within_a_split_are_counted_without_the_first(root: Path) -> None:
    for n in (1, 2):
        shutil.copy(image(root, 0), image(root, n))
    assert found(check(root)) == {(TWICE, "train"): 2}


def test_a_copy_that_was_saved_again_is_found_by_its_pixels(root: Path) -> None:
    for n in (1, 5):
        Image.open(image(root, 1)).convert("RGB").save(root / "JPEGImages" / f"img{n:03d}.png", compress_level=n)
    image(root, 1).unlink()
    image(root, 5).unlink()
    assert found(check(root)) == {}
    assert found(check(root, pixels=True)) == {(LEAKED, "train, val"): 1}


def test_damage_in_the_middle_of_a_file_is_found_by_decoding(root: Path) -> None:
    path = root / "JPEGImages" / "img002.png"
    image(root, 2).unlink()
    Image.fromarray(scene(2, 64, 48)[0]).save(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(bytes(content))
    assert found(check(root)) == {}
    report = check(root, pixels=True)
    assert found(report) == {(BROKEN, "train"): 1}
    assert str(path) in report.faults[0].examples[0]


def test_a_truncated_image_needs_no_decoding(root: Path) -> None:
    image(root, 3).write_bytes(image(root, 3).read_bytes()[:300])
    assert found(check(root)) == {(BROKEN, "train"): 1}


def test_unlabelled_images_are_counted_and_looked_for_in_val(root: Path) -> None:
    (root / "more").mkdir()
    Image.fromarray(scene(77, 64, 48)[0]).save(root / "more" / "a.png")
    report = check(root, unlabeled={"folder": "more"})
    assert report.faults == ()
    assert report.parts["unlabelled"].images == 1
    shutil.copy(image(root, 4), root / "more" / "b.jpg")
    shutil.copy(image(root, 0), root / "more" / "c.jpg")
    report = check(root, unlabeled={"folder": "more"})
    assert found(report) == {(LEAKED_UNLABELED, "unlabelled, val"): 1}
    assert any("1 unlabelled images are training images" in remark for remark in report.remarks)


def test_classes_that_one_split_lacks_are_remarked_upon(root: Path) -> None:
    for n in range(4, 6):
        xml = root / "Annotations" / f"img{n:03d}.xml"
        xml.write_text(voc_xml(f"img{n:03d}", 64, 48, [("red", (4, 4, 20, 20))]))
    report = check(root)
    assert report.missing_classes["val"] == ["green", "blue"]
    assert any("AP does not measure them" in remark for remark in report.remarks)
    assert report.faults == ()


def test_a_lightly_edited_copy_is_remarked_upon(root: Path) -> None:
    pixels = np.asarray(Image.open(image(root, 1)).convert("RGB")).astype(int)
    brighter = np.clip(pixels + 6, 0, 255).astype(np.uint8)
    Image.fromarray(brighter).save(image(root, 5), quality=90)
    report = check(root, pixels=True)
    assert report.faults == ()
    assert any("train img001.jpg ~ val img005.jpg" in remark for remark in report.remarks)


def test_sizes_are_measured_in_the_models_input(root: Path) -> None:
    for n in range(4):
        xml = root / "Annotations" / f"img{n:03d}.xml"
        xml.write_text(voc_xml(f"img{n:03d}", 64, 48, [("red", (4, 4, 20, 20))]))
    raw = {"type": "voc", "root": str(root), "classes": ["red", "green", "blue"]}
    for size, side, level in (
        ([48, 64], "16-32", "4"),
        ([96, 200], "32-64", "4"),
        ([192, 400], "64-128", "8"),
    ):
        data = VocData.model_validate({**raw, "image_size": size})
        train = check_data(data, model=Model((4, 8), 8.0, 2)).parts["train"]
        assert train.input_sides[side] == train.levels[level] == 4
        assert train.below_stride == 0
        assert train.boxes == {"small": 4, "medium": 0, "large": 0}
    assert (
        check_data(VocData.model_validate({**raw, "image_size": [48, 64]}), model=Model((32,)))
        .parts["train"]
        .below_stride
        == 4
    )


def test_padding_is_that_of_the_batches(root: Path) -> None:
    data = VocData.model_validate(
        {"type": "voc", "root": str(root), "classes": ["red", "green", "blue"], "image_size": [48, 64]}
    )
    train = check_data(data, model=Model(batch_size=2)).parts["train"]
    assert train.padding == {"as is": 0.25, "grouped": 0.25}  # 48x64 in 64x64


def test_the_version_changes_with_an_object_and_the_pixel_version_with_a_pixel(root: Path) -> None:
    before = check(root, pixels=True)
    content = bytearray(image(root, 0).read_bytes())
    content[-20] ^= 1
    image(root, 0).write_bytes(bytes(content))
    after = check(root, pixels=True)
    assert before.version == after.version
    assert before.pixel_version != after.pixel_version
    xml = root / "Annotations" / "img001.xml"
    xml.write_text(voc_xml("img001", 64, 48, [("red", (4, 4, 20, 20))]))
    assert check(root).version != before.version


def test_a_set_that_cannot_be_read_is_a_fault(root: Path) -> None:
    (root / "ImageSets/Main/val.txt").write_text("")
    (fault,) = check(root).faults
    assert fault.reason == UNREADABLE
    assert "the val split is empty" in fault.examples[0]


def test_generated_scenes_can_be_checked() -> None:
    data = DigitsData.model_validate({"type": "digits-scenes-v1", "train_images": 6, "val_images": 3})
    report = check_data(data)
    assert report.faults == ()
    assert report.parts["train"].images == 6


# ------------------------------------------------------------------------------------------------------ folders


def test_a_voc_and_a_coco_folder_are_known_by_their_look(tmp_path: Path) -> None:
    write_tiny_voc(tmp_path / "voc")
    guessed = guess_data(tmp_path / "voc")
    assert isinstance(guessed, VocData)
    assert guessed.classes == ("blue", "green", "red")
    write_tiny_coco(tmp_path / "coco")
    assert check_folder(tmp_path / "coco").parts["train"].images == 4
    plain = tmp_path / "coco"
    (plain / "annotations").mkdir()
    for split in ("train", "val"):
        (plain / f"{split}.json").rename(plain / "annotations" / f"instances_{split}2017.json")
        (plain / split).rename(plain / f"{split}2017")
        (plain / "annotations" / f"captions_{split}2017.json").write_text('{"annotations": []}')
    report = check_folder(plain)
    assert (report.type, report.parts["val"].images, report.faults) == ("coco", 2, ())


@pytest.mark.parametrize("layout", ["images/{}", "{}/images"])
def test_a_yolo_folder_is_known_with_and_without_its_data_yaml(tmp_path: Path, layout: str) -> None:
    for n, split in enumerate(("train", "val")):
        folder = tmp_path / layout.format(split)
        labels = Path(str(folder).replace("images", "labels"))
        folder.mkdir(parents=True)
        labels.mkdir(parents=True)
        Image.fromarray(scene(n, 64, 48)[0]).save(folder / f"{n}.png")
        (labels / f"{n}.txt").write_text("2 .5 .5 .4 .4\n")
    report = check_folder(tmp_path)
    assert report.type == "yolo"
    assert report.parts["train"].classes == {"0": 0, "1": 0, "2": 1}
    text = f"train: {layout.format('train')}\nval: {layout.format('val')}\nnames: [a, b, c]\n"
    (tmp_path / "set.yaml").write_text(text)
    assert check_folder(tmp_path).parts["train"].classes == {"a": 0, "b": 0, "c": 1}


def test_a_folder_of_images_is_checked_as_unlabelled(tmp_path: Path) -> None:
    for n in range(3):
        Image.fromarray(scene(n, 64, 48)[0]).save(tmp_path / f"{n}.png")
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    (tmp_path / "2.png").write_bytes(b"")
    report = check_folder(tmp_path)
    assert report.type == "images"
    assert found(report) == {(BROKEN, "unlabelled"): 1, (TWICE, "unlabelled"): 1}


@pytest.mark.parametrize("make", [False, True])
def test_an_empty_or_missing_folder_is_a_fault(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "x"
    if make:
        folder.mkdir()
    (fault,) = check_folder(folder).faults
    assert fault.reason == UNREADABLE
    assert ("no image in it" if make else "no such file or folder") in fault.examples[0]
