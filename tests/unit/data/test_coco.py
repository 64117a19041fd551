"""Reading COCO files: what comes out of a good one, and what is said about each fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bcd.data import DataError, open_data
from bcd.data.json_lines import JsonPositions
from bcd.spec import CocoData
from tests.helpers.tiny_sets import scene, write_coco_json, write_tiny_coco


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    return write_tiny_coco(tmp_path)


def spec(data: dict[str, Any], **changes: Any) -> CocoData:
    return CocoData.model_validate(data | changes)


def edit(data: dict[str, Any], change: Callable[[dict[str, Any]], Any], file: str = "train.json") -> Path:
    path = Path(data["root"]) / file
    content = json.loads(path.read_text())
    change(content)
    write_coco_json(path, content)
    return path


def refused(data: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_data(spec(data, **changes))
    return str(caught.value)


def skipped(data: dict[str, Any]) -> dict[str, int]:
    return open_data(spec(data, on_invalid="skip")).train.skipped


def test_classes_are_in_the_order_of_their_ids(data: dict[str, Any]) -> None:
    splits = open_data(spec(data))
    assert splits.train.class_names == splits.val.class_names == ("green", "red", "blue")
    for n, record in enumerate(splits.train.records):
        _, objects = scene(n, 64, 48)
        names = [splits.train.class_names[c] for c in record.labels]
        assert [(c, tuple(b)) for c, b in zip(names, record.boxes.tolist(), strict=True)] == objects
        assert record.id == 100 + n
    assert splits.train.load_image(0).shape == (48, 64, 3)


def test_crowds_are_ignored_and_annotated_areas_kept(data: dict[str, Any]) -> None:
    edit(data, lambda c: c["annotations"][0].update(iscrowd=1, area=77.5))
    record = open_data(spec(data)).train.records[0]
    assert record.ignore[0]
    assert record.areas[0] == 77.5


def test_an_image_without_objects_stays(data: dict[str, Any]) -> None:
    edit(data, lambda c: c.update(annotations=[a for a in c["annotations"] if a["image_id"] != 100]))
    train = open_data(spec(data)).train
    assert len(train) == 4
    assert train.records[0].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bbox": [4, 4, 0, 9]}, "box without area"),
        ({"bbox": [64, 4, 5, 9]}, "box outside the image"),
        ({"bbox": [4, 4, 9]}, "box is not four finite numbers"),
        ({"bbox": None}, "box is not four finite numbers"),
        ({"bbox": [4, float("nan"), 9, 9]}, "box is not four finite numbers"),
        ({"bbox": [4, 4, 10**400, 9]}, "box is not four finite numbers"),
        ({"category_id": 5}, "unknown class"),
        ({"category_id": "7"}, "unknown class"),
        ({"image_id": 999}, "annotation of an image that is not listed"),
        ({"id": 1000}, "duplicate id"),
        ({"id": "x"}, "id is not an integer"),
    ],
)
def test_a_bad_annotation_is_named_by_line_index_and_id(
    data: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    path = edit(data, lambda c: c["annotations"][2].update(change))
    shown = change.get("id", 1002)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if '"annotations": [' in text) + 3
    assert f"{path}:{line}: annotations[2] (id {shown!r}): {reason}" in refused(data)
    assert skipped(data) == {reason: 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": None}, "annotation without image size"),
        ({"height": 0}, "annotation without image size"),
        ({"width": 63}, "image size differs from the annotation"),
        ({"file_name": "gone.png"}, "missing image file"),
        ({"file_name": "../train/0.png"}, "missing image file"),
        ({"file_name": "/etc/hostname"}, "missing image file"),
        ({"id": 100}, "duplicate id"),
    ],
)
def test_a_bad_image_entry_is_named_and_left_out(data: dict[str, Any], change: dict[str, Any], reason: str) -> None:
    def apply(content: dict[str, Any]) -> None:
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 101]
        content["images"][1].update(change)

    path = edit(data, apply)
    assert f"{path}:3: images[1] (id {change.get('id', 101)}): {reason}" in refused(data)
    splits = open_data(spec(data, on_invalid="skip"))
    assert splits.train.skipped == {reason: 1}
    assert len(splits.train) == 3


def test_objects_of_an_image_that_is_left_out_are_not_counted_again(data: dict[str, Any]) -> None:
    edit(data, lambda c: c["images"][1].update(width=None))
    assert skipped(data) == {"annotation without image size": 1}


def test_a_box_partly_outside_is_clipped_and_counted(data: dict[str, Any]) -> None:
    edit(data, lambda c: c["annotations"][0].update(bbox=[50, 40, 30, 30]))
    train = open_data(spec(data)).train
    assert train.records[0].boxes[0].tolist() == [50, 40, 64, 48]
    assert train.clipped == 1


def test_broken_json_names_line_and_column(data: dict[str, Any]) -> None:
    path = Path(data["root"]) / "val.json"
    path.write_text('{"images": [],\n "annotations": [,]}')
    assert f"{path}:2:18: not valid JSON" in refused(data)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_each_list_is_required(data: dict[str, Any], key: str) -> None:
    edit(data, lambda c: c.pop(key))
    assert f"`{key}` is missing" in refused(data)


def test_categories_must_be_distinct_and_agree_between_the_files(data: dict[str, Any]) -> None:
    edit(data, lambda c: c["categories"][0].update(name="crimson"), "val.json")
    assert "category 7 is 'crimson' here and 'red' in train.json" in refused(data)
    edit(data, lambda c: c["categories"][0].update(id=3))
    assert "occurs twice" in refused(data)


def test_missing_files_say_what_to_change(data: dict[str, Any]) -> None:
    assert "data.val_annotations is the json file" in refused(data, val_annotations="nope.json")
    assert "data.train_folder is the image folder" in refused(data, train_folder="nope")
    assert "without '..'" in refused(data, train_annotations="../train.json")


def test_a_file_without_images_is_refused(data: dict[str, Any]) -> None:
    edit(data, lambda c: c.update(images=[], annotations=[]), "val.json")
    assert "no usable image in the val split" in refused(data, on_invalid="skip")


def test_positions_are_found_in_any_layout() -> None:
    content = {"info": {"a": [1, 2]}, "images": [], "annotations": [{"id": 1, "b": [1, {"c": "]}"}]}, {"id": 2}, 3]}
    assert JsonPositions(json.dumps(content)).line("annotations", 2) == 1
    text = json.dumps(content, indent=2)
    lines = text.splitlines()
    positions = JsonPositions(text)
    assert positions.line("annotations", 2) == lines.index("    3") + 1
    assert lines[positions.line("annotations", 1)] == '      "id": 2'
    assert lines[positions.line("annotations", 0)] == '      "id": 1,'
