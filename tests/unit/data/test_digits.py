"""digits-scenes-v1: the scenes, their boxes, and a cache that may be damaged, shared or missing."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bcd.data import Splits, open_data
from bcd.data.digits import VISIBLE, _arrange, _packaged_digits, draw_scene, glyph_indices
from bcd.spec import DigitsData


def spec(**changes: Any) -> DigitsData:
    return DigitsData.model_validate({"type": "digits-scenes-v1", "train_images": 12, "val_images": 5} | changes)


def pixels(splits: Splits) -> np.ndarray:
    return np.stack([splits.train.load_image(i) for i in range(len(splits.train))])


def same(a: Splits, b: Splits) -> bool:
    boxes = all(
        np.array_equal(x.boxes, y.boxes) and np.array_equal(x.labels, y.labels)
        for x, y in zip(a.train.records + a.val.records, b.train.records + b.val.records, strict=True)
    )
    return boxes and np.array_equal(pixels(a), pixels(b))


def test_scenes_have_the_shape_and_objects_asked_for() -> None:
    splits = open_data(spec(min_objects=2, max_objects=4))
    assert (len(splits.train), len(splits.val)) == (12, 5)
    assert splits.train.class_names == tuple("0123456789")
    assert splits.train.load_image(3).shape == (96, 96, 3)
    assert splits.train.load_image(3).dtype == np.uint8
    for record in splits.train.records:
        assert 1 <= len(record.labels) <= 4
        assert (record.boxes[:, :2] >= 0).all()
        assert (record.boxes[:, 2:] <= 96).all()
        assert (record.boxes[:, 2:] > record.boxes[:, :2]).all()


def test_every_class_and_count_occurs() -> None:
    records = open_data(spec(train_images=150)).train.records
    assert set(np.concatenate([r.labels for r in records])) == set(range(10))
    assert {len(r.labels) for r in records} == {3, 4, 5, 6}


def test_boxes_are_tight_around_the_visible_pixels() -> None:
    options = spec(texture=0.0, min_objects=1, max_objects=1)
    for number in range(30):
        image, [(_, x1, y1, x2, y2)] = draw_scene(options, "train", number)
        # Without texture the background is one colour, so the digit is what differs from it by half its contrast.
        background = image[0, 0] if (x1, y1) != (0, 0) else image[-1, -1]
        difference = np.abs(image.astype(int) - background.astype(int)).sum(2)
        seen = difference > VISIBLE * difference.max() + 3
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        found = np.asarray([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(found - (x1, y1, x2, y2)).max() <= 1


def test_covered_digits_keep_only_their_visible_box() -> None:
    options = spec(min_objects=6, max_objects=6, max_overlap=0.6)
    covered = 0
    for number in range(20):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([0, 0, number])))
        placed, owner = _arrange(options, "train", random)
        _, objects = draw_scene(options, "train", number)
        for n, (glyph, (label, x1, y1, x2, y2)) in enumerate(zip(placed, objects, strict=True)):
            rows, columns = np.nonzero(owner == n)
            assert (x1, y1, x2, y2) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert label == glyph.label
            covered += (x2 - x1, y2 - y1) != glyph.opacity.shape[::-1]
    assert covered > 0


def test_digits_of_a_scene_overlap_no_more_than_allowed() -> None:
    records = open_data(spec(max_overlap=0.0, train_images=40)).train.records
    for record in records:
        boxes = record.boxes
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = np.clip(high - low, 0, None).prod(2)
        assert (shared[~np.eye(len(boxes), dtype=bool)] == 0).all()


def test_glyphs_are_those_that_scikit_learn_gives_out() -> None:
    official: Any = load_digits()
    glyphs, labels = _packaged_digits()
    assert np.array_equal(glyphs * 16, official.images)
    assert np.array_equal(labels, official.target)


def test_train_and_val_share_no_glyph() -> None:
    train, val = glyph_indices("train"), glyph_indices("val")
    assert not set(np.concatenate(train)) & set(np.concatenate(val))
    assert sum(map(len, train)) + sum(map(len, val)) == 1797
    for a, b in zip(train, val, strict=True):
        assert 0.19 < len(b) / (len(a) + len(b)) < 0.22


def test_the_first_scenes_of_a_larger_set_are_the_same() -> None:
    small, large = open_data(spec(train_images=5)), open_data(spec(train_images=140))
    assert np.array_equal(pixels(small), pixels(large)[:5])
    for a, b in zip(small.train.records, large.train.records, strict=False):
        assert np.array_equal(a.boxes, b.boxes)


def test_the_scene_seed_changes_the_scenes_and_their_hash() -> None:
    a, b = open_data(spec()), open_data(spec(scene_seed=1))
    assert not same(a, b)
    assert a.train.content_hash != b.train.content_hash
    assert a.train.content_hash != a.val.content_hash
    augmented = open_data(spec(augment={"flip": 0.5}, max_train_images=3))
    assert augmented.train.content_hash == a.train.content_hash
    assert same(a, augmented)


def test_scenes_may_be_empty_or_crowded() -> None:
    empty = open_data(spec(min_objects=0, max_objects=1, train_images=20)).train
    assert {len(r.labels) for r in empty.records} == {0, 1}
    crowded = open_data(spec(min_objects=50, max_objects=50, train_images=2)).train
    assert all(4 < len(r.labels) <= 50 for r in crowded.records)


def test_the_cache_gives_the_same_scenes_without_drawing(tmp_path: Path) -> None:
    fresh = open_data(spec())
    said: list[str] = []
    first = open_data(spec(), cache_dir=tmp_path, progress=said.append)
    assert said == ["drawing 12 train scenes", "drawing 5 val scenes"]
    second = open_data(spec(), cache_dir=tmp_path, progress=said.append)
    assert len(said) == 2
    assert same(fresh, first)
    assert same(first, second)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing"])
def test_a_damaged_cache_is_drawn_again(tmp_path: Path, suffix: str, damage: str) -> None:
    good = open_data(spec(), cache_dir=tmp_path)
    for path in tmp_path.rglob(f"*.{suffix}"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "missing":
            path.unlink()
        else:
            half = bytes(content[: len(content) // 3])
            replacement = {"truncated": half, "flipped": bytes(content), "empty": b""}[damage]
            path.with_suffix(".new").write_bytes(replacement)
            path.with_suffix(".new").replace(path)
    said: list[str] = []
    again = open_data(spec(), cache_dir=tmp_path, progress=said.append)
    assert same(good, again)
    assert "drawing 12 train scenes" in said
    said.clear()
    open_data(spec(), cache_dir=tmp_path, progress=said.append)
    assert said == []


def test_a_cache_folder_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    said: list[str] = []
    splits = open_data(spec(), cache_dir=blocked, progress=said.append)
    assert same(splits, open_data(spec()))
    assert any("going on without it" in line for line in said)


def _open_in_child(cache: str, ready: Any, results: Any) -> None:
    ready.wait()
    splits = open_data(spec(train_images=40), cache_dir=Path(cache))
    results.put((int(pixels(splits).sum()), splits.train.content_hash))


def test_two_processes_may_fill_the_cache_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(2), context.Queue()
    children = [context.Process(target=_open_in_child, args=(str(tmp_path), ready, results)) for _ in range(2)]
    for child in children:
        child.start()
    found = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join(60)
    expected = open_data(spec(train_images=40))
    assert found == [(int(pixels(expected).sum()), expected.train.content_hash)] * 2
    assert same(expected, open_data(spec(train_images=40), cache_dir=tmp_path))
