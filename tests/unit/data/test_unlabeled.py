"""Images without labels: where they come from, and how they stand in a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bcd.data import DataError, Splits, open_data, train_batch
from bcd.data.digits import draw_scene, glyph_indices
from bcd.spec import DigitsData, SpecError, VocData, parse_spec
from tests.helpers.runs import TINY
from tests.helpers.tiny_sets import scene, write_tiny_coco, write_tiny_voc

AUGMENT = {"flip": 0.5, "scale": 0.2, "color": 0.3}


def write_images(folder: Path, numbers: range, suffix: str = "png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"free{n}.{suffix}" for n in numbers]
    for n, path in zip(numbers, paths, strict=True):
        Image.fromarray(scene(n, 64, 48)[0]).save(path)
    return paths


def digits(**unlabeled: Any) -> DigitsData:
    block = {"type": "digits-scenes-v1", "train_images": 10, "val_images": 3, "image_size": 64, "max_size": 40}
    return DigitsData.model_validate({**block, "unlabeled": unlabeled or None})


def voc(root: Path, unlabeled: dict[str, Any] | None, **changes: Any) -> VocData:
    return VocData.model_validate({**write_tiny_voc(root), "unlabeled": unlabeled, **changes})


def refused(data: VocData) -> str:
    with pytest.raises(DataError) as caught:
        open_data(data)
    return str(caught.value)


def batch(splits: Splits, data: Any, step: int = 0, size: int = 4, **more: Any) -> Any:
    return train_batch(splits.train, data, step=step, batch_size=size, seed=3, unlabeled=splits.unlabeled, **more)


# --------------------------------------------------------------------------------------------------- the spec


def test_unlabelled_images_without_a_method_are_refused() -> None:
    with pytest.raises(SpecError, match=r"data\.unlabeled needs a method"):
        parse_spec({**TINY, "data": {**TINY["data"], "unlabeled": {"images": 5}}})


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"folder": "x", "share": 0}, "greater than 0"),
        ({"folder": "x", "share": 1.0}, "less than or equal to 0.95"),
        ({"folder": "x", "per_batch": 0}, "greater than or equal to 1"),
        ({"folder": "x", "per_batch": 4, "share": 0.5}, "not both"),
        ({"folder": "x", "weight": 0}, "greater than 0"),
        ({"folder": "x", "list": "y"}, "exactly one of `folder`"),
        ({"share": 0.5}, "exactly one of `folder`"),
        ({"images": 5}, "unknown key"),
    ],
)
def test_a_block_that_cannot_be_used_says_why(tmp_path: Path, block: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        parse_spec({**TINY, "data": {**write_tiny_voc(tmp_path), "unlabeled": block}})


def test_a_share_is_a_part_of_the_enlarged_batch() -> None:
    counts = [digits(images=9, **amount).unlabeled.count(16) for amount in ({}, {"share": 0.2}, {"share": 0.01})]  # type: ignore[union-attr]
    assert counts == [16, 4, 1]
    assert digits(images=9, per_batch=5).unlabeled.count(16) == 5  # type: ignore[union-attr]


# ----------------------------------------------------------------------------------------------------- batches


def test_unlabelled_images_follow_the_labelled_ones_and_weigh_in_distillation_alone() -> None:
    data = digits(images=7, per_batch=3, weight=0.5)
    made = batch(open_data(data), data)
    assert made.images_B3HW.shape == (7, 3, 64, 64)
    assert made.targets.labelled_B.tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert made.targets.distill_B.tolist() == [1, 1, 1, 1, 0.5, 0.5, 0.5]
    assert made.targets.valid_BG[:4].any(1).all()
    assert not made.targets.valid_BG[4:].any()


@pytest.mark.parametrize("augment", [{}, AUGMENT])
def test_the_labelled_images_are_the_same_with_and_without(augment: dict[str, float]) -> None:
    plain = digits().model_copy(update={"augment": digits().augment.model_validate(augment)})
    both = plain.model_copy(update={"unlabeled": digits(images=7, per_batch=3).unlabeled})
    for step in range(4):
        alone, mixed = batch(open_data(plain), plain, step), batch(open_data(both), both, step)
        assert alone.image_ids == mixed.image_ids[:4]
        assert torch.equal(alone.images_B3HW, mixed.images_B3HW[:4])
        assert torch.equal(alone.targets.boxes_BG4, mixed.targets.boxes_BG4[:4])
        assert alone.targets.labelled_B is None
        assert alone.targets.distill_B is None


def test_every_unlabelled_image_comes_equally_often_under_an_id_of_its_own() -> None:
    data = digits(images=6, per_batch=4)
    splits = open_data(data)
    seen = [id for step in range(3) for id in batch(splits, data, step).image_ids[4:]]
    assert sorted(seen) == sorted(2 * [-1, -2, -3, -4, -5, -6])
    assert not set(seen) & {record.id for record in splits.train.records}


def test_a_part_of_a_batch_equals_the_same_images_of_the_whole() -> None:
    data = digits(images=6, per_batch=2).model_copy(update={"augment": digits().augment.model_validate(AUGMENT)})
    splits = open_data(data)
    whole, part = batch(splits, data, 2), batch(splits, data, 2, positions=[1, 3, 5])
    assert part.image_ids == tuple(whole.image_ids[n] for n in (1, 3, 5))
    assert torch.equal(part.images_B3HW, whole.images_B3HW[[1, 3, 5]])
    assert part.targets.labelled_B.tolist() == [1, 1, 0]


def test_all_training_images_are_one_data_set_for_a_cached_teacher() -> None:
    data = digits(images=4)
    splits = open_data(data)
    every = splits.training
    assert [record.id for record in every.records] == [*range(10), -1, -2, -3, -4]
    assert np.array_equal(every.load_image(11), splits.unlabeled.load_image(1))  # type: ignore[union-attr]
    assert np.array_equal(every.load_resized(2, (32, 32)), splits.train.load_resized(2, (32, 32)))
    plain = open_data(digits())
    assert plain.training is plain.train


def test_the_version_of_the_data_covers_them_and_the_protocol_does_not() -> None:
    plain, some, more = (open_data(d) for d in (digits(), digits(images=4), digits(images=5)))
    assert len({plain.version, some.version, more.version}) == 3
    assert plain.val.content_hash == some.val.content_hash == more.val.content_hash
    assert plain.train.content_hash == some.train.content_hash


def test_withheld_scenes_use_training_glyphs_and_are_new() -> None:
    assert all(np.array_equal(a, b) for a, b in zip(glyph_indices("unlabeled"), glyph_indices("train"), strict=True))
    data = digits(images=3)
    splits = open_data(data)
    assert splits.unlabeled is not None
    assert not any(len(record.labels) for record in splits.unlabeled.records)
    assert np.array_equal(splits.unlabeled.load_image(1), draw_scene(data, "unlabeled", 1)[0])
    assert not np.array_equal(splits.unlabeled.load_image(1), splits.train.load_image(1))


# ------------------------------------------------------------------------------------------------------- files


def test_a_folder_is_read_with_its_subfolders_below_the_root_or_anywhere(tmp_path: Path) -> None:
    write_images(tmp_path / "set" / "more", range(2))
    write_images(tmp_path / "set" / "more" / "deep", range(2, 4), "jpg")
    (tmp_path / "set" / "more" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "more" / "._free0.png").write_bytes(b"a Mac was here")
    for folder in ("more", str(tmp_path / "set" / "more")):
        splits = open_data(voc(tmp_path / "set", {"folder": folder}))
        assert splits.unlabeled is not None
        assert len(splits.unlabeled) == 4
        assert np.array_equal(splits.unlabeled.load_image(2), scene(0, 64, 48)[0])


def test_ids_stay_apart_from_negative_ones_of_a_coco_file(tmp_path: Path) -> None:
    from bcd.spec import CocoData

    raw = write_tiny_coco(tmp_path)
    file = tmp_path / "train.json"
    file.write_text(file.read_text().replace('"id": 100,', '"id": -7,').replace('"image_id": 100,', '"image_id": -7,'))
    write_images(tmp_path / "more", range(2))
    splits = open_data(CocoData.model_validate({**raw, "unlabeled": {"folder": "more"}}))
    assert splits.unlabeled is not None
    assert [record.id for record in splits.unlabeled.records] == [-8, -9]


def test_a_list_may_have_relative_absolute_and_windows_paths_a_bom_and_crlf(tmp_path: Path) -> None:
    first, second, third = write_images(tmp_path / "lists" / "a", range(3))
    text = "\r\n".join(["./a/free0.png", str(second), "", "a\\free2.png"])
    (tmp_path / "lists" / "all.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    splits = open_data(voc(tmp_path, {"list": "lists/all.txt"}))
    assert splits.unlabeled is not None
    assert [path.resolve() for path in splits.unlabeled.paths] == [first, second, third]  # type: ignore[attr-defined]


def test_a_listed_path_that_is_missing_or_repeated_is_named_by_line(tmp_path: Path) -> None:
    write_images(tmp_path / "a", range(1))
    file = tmp_path / "all.txt"
    file.write_text("a/free0.png\na/gone.png\nC:\\pictures\\x.png\na/free0.png\n")
    message = refused(voc(tmp_path, {"list": "all.txt"}))
    assert f"{file}:2: missing image file: a/gone.png" in message
    assert f"{file}:3: missing image file" in message
    assert "a Windows path" in message
    assert f"{file}:4: duplicate id: a/free0.png stands in line 1 too" in message
    kept = open_data(voc(tmp_path, {"list": "all.txt"}, on_invalid="skip")).unlabeled
    assert kept is not None
    assert (len(kept), kept.skipped) == (1, {"missing image file": 2, "duplicate id": 1})


def test_an_image_that_does_not_open_is_refused_or_left_out(tmp_path: Path) -> None:
    bad = write_images(tmp_path / "more", range(2))[0]
    bad.write_bytes(bad.read_bytes()[:100])
    assert f"{bad}: image does not open" in refused(voc(tmp_path, {"folder": "more"}))
    lines: list[str] = []
    splits = open_data(voc(tmp_path, {"folder": "more"}, on_invalid="skip"), progress=lines.append)
    assert splits.unlabeled is not None
    assert len(splits.unlabeled) == 1
    assert "unlabelled: left out 1 x image does not open" in lines


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"folder": "gone"}, "no such folder"),
        ({"folder": "empty"}, "no image in it"),
        ({"list": "gone.txt"}, "no such file"),
        ({"list": "nothing.txt"}, "no usable unlabelled image"),
    ],
)
def test_nothing_to_read_is_told(tmp_path: Path, block: dict[str, Any], told: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.txt").write_text("\n\n")
    assert told in refused(voc(tmp_path, block))


def test_a_turned_photo_is_seen_upright(tmp_path: Path) -> None:
    path = tmp_path / "more" / "turned.jpg"
    path.parent.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(1, 64, 48)[0]).save(path, exif=exif)
    splits = open_data(voc(tmp_path, {"folder": "more"}))
    assert splits.unlabeled is not None
    record = splits.unlabeled.records[0]
    assert (record.width, record.height) == (48, 64)
    assert splits.unlabeled.load_image(0).shape == (64, 48, 3)


def test_unlabelled_images_that_are_in_val_are_remarked_upon(tmp_path: Path) -> None:
    lines: list[str] = []
    open_data(voc(tmp_path, {"folder": "JPEGImages"}), progress=lines.append)
    assert any(line.startswith("warning: 2 unlabelled images are in val too") for line in lines)
