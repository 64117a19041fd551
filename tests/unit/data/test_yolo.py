"""Reading YOLO folders: what comes out of a good one, and what is said about each fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcd.data import DataError, Splits, open_data
from bcd.data.yolo import BACKGROUND, OUTLINE, REPEATED, label_file
from bcd.spec import SpecError, YoloData, parse_spec
from tests.helpers.runs import TINY
from tests.helpers.tiny_sets import CLASSES, scene

SIZE = (64, 48)


def line(number: int) -> str:
    """The label file of scene `number`."""
    rows = []
    for name, (x1, y1, x2, y2) in scene(number, *SIZE)[1]:
        values = ((x1 + x2) / 2 / 64, (y1 + y2) / 2 / 48, (x2 - x1) / 64, (y2 - y1) / 48)
        rows.append(f"{CLASSES.index(name)} " + " ".join(f"{value:.6f}" for value in values))
    return "\n".join(rows) + "\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for n in numbers:
            Image.fromarray(scene(n, *SIZE)[0]).save(tmp_path / "images" / split / f"{n}.png")
            (tmp_path / "labels" / split / f"{n}.txt").write_text(line(n))
    names = "".join(f"  {n}: {name}\n" for n, name in enumerate(CLASSES))
    (tmp_path / "data.yaml").write_text(f"path: ../datasets/x\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return tmp_path


def spec(root: Path, **changes: Any) -> YoloData:
    return YoloData.model_validate({"type": "yolo", "root": str(root), "data_file": "data.yaml", **changes})


def opened(root: Path, **changes: Any) -> Splits:
    return open_data(spec(root, **changes))


def refused(root: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(root, **changes)
    return str(caught.value)


def write(root: Path, text: str | bytes, number: int = 1) -> Path:
    path = root / "labels" / "train" / f"{number}.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_boxes_and_pixels_come_out_as_they_were_drawn(root: Path) -> None:
    splits = opened(root)
    assert splits.train.class_names == splits.val.class_names == CLASSES
    assert (len(splits.train), len(splits.val)) == (3, 2)
    for n, record in enumerate(splits.train.records):
        image, objects = scene(n, *SIZE)
        assert [CLASSES[c] for c in record.labels] == [name for name, _ in objects]
        assert np.allclose(record.boxes, [box for _, box in objects], atol=1e-3)
        assert np.array_equal(splits.train.load_image(n), image)
    assert splits.train.skipped == {}
    assert splits.train.clipped == 0
    assert splits.train.notes == {}


def test_folders_and_classes_may_stand_in_the_spec(root: Path) -> None:
    (root / "data.yaml").unlink()
    explicit = {"data_file": None, "classes": CLASSES, "train": "images/train", "val": "images/val"}
    assert len(opened(root, **explicit).train) == 3
    (root / "val.txt").write_text("./images/val/3.png\nimages/val/4.png\n")
    assert len(opened(root, **{**explicit, "val": "val.txt"}).val) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("train: images/train", "train: ../images/train"),
        ("train: images/train", "train: images\\train"),
        ("train: images/train", "train: [images/train]"),
        ("val: images/val", "valid: images/val"),
        ("names:\n  0: red\n  1: green\n  2: blue\n", "names: [red, green, blue]\n"),
    ],
)
def test_a_data_yaml_may_be_written_in_many_ways(root: Path, old: str, new: str) -> None:
    file = root / "data.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    splits = opened(root)
    assert (len(splits.train), len(splits.val), splits.train.class_names) == (3, 2, CLASSES)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("train: images/train", "train: images/gone", "`train` names 'images/gone', which is not there"),
        ("train: images/train", "other: 1", "`train` must name a folder"),
        ("  2: blue", "  7: blue", "`names` must list the class names"),
        ("  2: blue", "  2: red", "holds a name twice"),
        ("names:", "names: [", "cannot read"),
        ("path: ../datasets/x", "- 1", "cannot read"),
    ],
)
def test_a_data_yaml_that_cannot_be_used_says_why(root: Path, old: str, new: str, told: str) -> None:
    file = root / "data.yaml"
    file.write_text(file.read_text().replace(old, new))
    assert told in refused(root)


def test_too_little_in_the_spec_is_told() -> None:
    with pytest.raises(SpecError, match="give `data_file`"):
        parse_spec({**TINY, "data": {"type": "yolo", "root": "x", "train": "images/train"}})


def test_a_path_out_of_the_root_is_refused(root: Path) -> None:
    assert "below data.root" in refused(root, train="../elsewhere")


def test_an_empty_label_file_and_a_missing_one_give_images_without_objects(root: Path) -> None:
    write(root, "")
    (root / "labels" / "train" / "2.txt").unlink()
    lines: list[str] = []
    train = open_data(spec(root), progress=lines.append).train
    assert [len(record.labels) for record in train.records] == [1, 0, 0]
    assert train.notes == {BACKGROUND: 1}
    assert f"train: 1 x {BACKGROUND}" in lines


def test_no_label_file_at_all_is_a_mistake(root: Path) -> None:
    (root / "labels").rename(root / "labeled")
    message = refused(root)
    assert "no image of the train split has a label file" in message
    assert str(root / "labels" / "train" / "0.txt") in message


@pytest.mark.parametrize(
    ("text", "reason", "at"),
    [
        ("0 .5 .5 .2 .2\n3 .5 .5 .2 .2\n", "unknown class: 3 is no index of the 3 classes (0 to 2)", 2),
        ("-1 .5 .5 .2 .2\n", "unknown class", 1),
        ("0.5 .5 .5 .2 .2\n", "unknown class", 1),
        ("nan .5 .5 .2 .2\n", "unknown class", 1),
        ("0 nan .5 .2 .2\n", "box is not four finite numbers", 1),
        ("0 .5 .5 inf .2\n", "box is not four finite numbers", 1),
        ("0 .5 .5 .2 x\n", "box is not four finite numbers", 1),
        ("red .5 .5 .2 .2\n", "box is not four finite numbers", 1),
        ("0 .5 .5 .2\n", "label line has not 5 columns: 4 in", 1),
        ("\n0 .5 .5 .2 .2 .9\n", "looks like a score", 2),
        ("0 .5 .5 0 .2\n", "box without area", 1),
        ("0 .5 .5 -.2 .2\n", "box coordinates are not between 0 and 1", 1),
        ("0 32 24 10 10\n", "box coordinates are not between 0 and 1", 1),
    ],
)
def test_a_faulty_line_is_named_by_file_and_line(root: Path, text: str, reason: str, at: int) -> None:
    path = write(root, text)
    message = refused(root)
    assert f"{path}:{at}: " in message
    assert reason in message
    kept = opened(root, on_invalid="skip").train
    assert sum(kept.skipped.values()) == 1
    assert len(kept) == 3


def test_a_class_written_as_its_name_is_told_its_number(root: Path) -> None:
    write(root, f"{opened(root).train.class_names[1]} .5 .5 .2 .2\n")
    assert "write the class as its number, 1" in refused(root)


def test_a_bom_crlf_spaces_and_float_classes_are_read(root: Path) -> None:
    write(root, b"\xef\xbb\xbf0  .5 .5 .25 .25\r\n\r\n2.0\t.5 .5 .5 .5 \r\n")
    record = opened(root).train.records[1]
    assert record.labels.tolist() == [0, 2]
    assert record.boxes.tolist() == [[24, 18, 40, 30], [16, 12, 48, 36]]


def test_a_label_file_that_is_no_text_is_a_fault(root: Path) -> None:
    path = write(root, b"\xff\xfe0\x00")
    assert f"{path}: label file cannot be read" in refused(root)


def test_outlines_become_boxes_and_are_counted(root: Path) -> None:
    write(root, "1 .25 .25 .75 .25 .5 .75\n")
    train = opened(root).train
    assert train.records[1].boxes.tolist() == [[16, 12, 48, 36]]
    assert train.notes == {OUTLINE: 1}


def test_a_repeated_line_counts_once(root: Path) -> None:
    write(root, "0 .5 .5 .2 .2\n0  .5 .5 .2 .2\n")
    train = opened(root).train
    assert len(train.records[1].labels) == 1
    assert train.notes == {REPEATED: 1}


def test_rounding_at_the_edge_is_no_cut_and_more_is_one(root: Path) -> None:
    write(root, "0 0.166666 .5 0.333334 .2\n")
    train = opened(root).train
    assert (train.clipped, train.records[1].boxes[0, 0]) == (0, 0)
    write(root, "0 0.1 .5 0.3 .2\n")
    assert opened(root).train.clipped == 1


def test_an_image_that_does_not_open_is_refused(root: Path) -> None:
    path = root / "images" / "train" / "1.png"
    path.write_bytes(b"no image")
    message = refused(root)
    assert f"{path}: image does not open: (" in message  # the place names the file, the detail does not again
    assert len(opened(root, on_invalid="skip").train) == 2


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/d/images/train/a.jpg", "/d/labels/train/a.txt"),
        ("/images/d/images/a.b.jpg", "/images/d/labels/a.b.txt"),
        ("/d/photos/a.jpg", "/d/photos/a.txt"),
        ("/d/train/images", "/d/train/images.txt"),
    ],
)
def test_label_files_lie_where_the_convention_says(image: str, label: str) -> None:
    assert label_file(Path(image)) == Path(label)


def test_training_images_without_objects_can_be_left_out(root: Path) -> None:
    write(root, "")
    whole, some = opened(root), opened(root, skip_empty=True)
    assert [record.file_name for record in some.train.records] == ["0.png", "2.png"]
    assert list(some.train.notes.values()) == [1]
    assert some.val.content_hash == whole.val.content_hash
    assert some.train.content_hash != whole.train.content_hash
    for n in range(3):
        write(root, "", n)
    assert "skip_empty leaves no training image" in refused(root, skip_empty=True)
