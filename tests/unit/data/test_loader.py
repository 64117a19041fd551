"""Batches: order, padding, purity in (seed, step), caching and prefetching."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bcd.data import Batch, DataError, Dataset, eval_batches, open_data, prefetch, train_batch
from bcd.data.images import PixelCache
from bcd.data.loader import PADDING, training_index
from bcd.data.records import make_record
from bcd.spec import DigitsData, VocData
from tests.helpers.tiny_sets import voc_xml, write_tiny_voc

FULL = {"flip": 0.5, "scale": 0.2, "shift": 0.1, "color": 0.5}


class Plain(Dataset):
    """Images of one grey level each, all of the given (height, width)."""

    def __init__(self, sizes: list[tuple[int, int]], objects: list[list[Any]] | None = None):
        records = [
            make_record(10 + i, f"{i}", w, h, objects[i] if objects else [((1.0, 2.0, 5.0, 8.0), 0, False, None)])
            for i, (h, w) in enumerate(sizes)
        ]
        super().__init__(("thing",), records, content_hash="")

    def load_image(self, i: int) -> np.ndarray:
        return np.full((self.records[i].height, self.records[i].width, 3), 100 + i, np.uint8)


def digits(**changes: Any) -> DigitsData:
    return DigitsData.model_validate({"type": "digits-scenes-v1", "train_images": 10, "val_images": 5} | changes)


def equal(a: Batch, b: Batch) -> bool:
    parts = ("boxes_BG4", "labels_BG", "valid_BG", "sizes_B2")
    return (
        a.image_ids == b.image_ids
        and torch.equal(a.images_B3HW, b.images_B3HW)
        and all(torch.equal(getattr(a.targets, p), getattr(b.targets, p)) for p in parts)
    )


def test_images_are_padded_with_the_mean_colour_on_the_right_and_below() -> None:
    batch = train_batch(Plain([(40, 50), (33, 65)]), digits(), step=0, batch_size=2, seed=0)
    assert batch.images_B3HW.shape == (2, 3, 64, 96)
    assert batch.images_B3HW.dtype == torch.uint8
    for image, (h, w), id in zip(batch.images_B3HW, batch.targets.sizes_B2.int(), batch.image_ids, strict=True):
        assert (image[:, :h, :w] == 90 + id).all()
        for channel, value in zip(image, PADDING, strict=True):
            assert (channel[h:] == value).all()
            assert (channel[:, w:] == value).all()


def test_targets_are_padded_and_leave_out_ignored_objects() -> None:
    box = (1.0, 2.0, 5.0, 8.0)
    objects = [[(box, 0, False, None), (box, 0, True, None)], [(box, 0, False, None)] * 3, []]
    batch = train_batch(Plain([(32, 32)] * 3, objects), digits(), step=0, batch_size=3, seed=0)
    counts = dict(zip(batch.image_ids, batch.targets.valid_BG.sum(1).tolist(), strict=True))
    assert counts == {10: 1, 11: 3, 12: 0}
    assert batch.targets.boxes_BG4.shape == (3, 3, 4)
    assert batch.targets.labels_BG.dtype == torch.int64


def test_a_batch_without_any_object_is_valid() -> None:
    batch = train_batch(Plain([(32, 32)], [[]]), digits(), step=0, batch_size=1, seed=0)
    assert batch.targets.boxes_BG4.shape == (1, 0, 4)
    assert batch.targets.valid_BG.shape == (1, 0)


@pytest.mark.parametrize("augment", [{}, FULL])
def test_a_batch_depends_on_seed_and_step_alone(augment: dict[str, float]) -> None:
    data = digits(augment=augment)
    train = open_data(data).train
    batches = [train_batch(train, data, step=step, batch_size=4, seed=7) for step in range(6)]
    again = train_batch(open_data(data).train, data, step=4, batch_size=4, seed=7)
    assert equal(batches[4], again)
    assert not equal(batches[4], train_batch(train, data, step=4, batch_size=4, seed=8))


def test_untouched_images_equal_the_source() -> None:
    data = digits()
    train = open_data(data).train
    batch = train_batch(train, data, step=0, batch_size=10, seed=0)
    assert sorted(batch.image_ids) == list(range(10))
    for n, id in enumerate(batch.image_ids):
        assert np.array_equal(batch.images_B3HW[n].permute(1, 2, 0).numpy(), train.load_image(id))
        count = len(train.records[id].labels)
        assert np.array_equal(batch.targets.boxes_BG4[n, :count].numpy(), train.records[id].boxes)


def test_every_epoch_has_each_image_once_in_a_new_order() -> None:
    seen = [training_index(10, None, 3, n) for n in range(30)]
    epochs = [seen[:10], seen[10:20], seen[20:]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_run_on_over_the_end_of_an_epoch() -> None:
    dataset = Plain([(32, 32)] * 5)
    ids = [id for step in range(5) for id in train_batch(dataset, digits(), step=step, batch_size=3, seed=1).image_ids]
    assert sorted(ids) == sorted(list(range(10, 15)) * 3)
    assert len(train_batch(dataset, digits(), step=0, batch_size=12, seed=1).image_ids) == 12


def test_the_subset_is_the_same_for_all_seeds_and_grows_with_its_size() -> None:
    chosen = {(seed, n): {training_index(50, n, seed, i) for i in range(n)} for seed in (0, 1) for n in (5, 9)}
    assert chosen[0, 5] == chosen[1, 5]
    assert len(chosen[0, 5]) == 5
    assert chosen[0, 5] < chosen[0, 9]
    assert {training_index(50, 80, 0, i) for i in range(50)} == set(range(50))


def test_evaluation_gives_every_image_once_with_its_scale(tmp_path: Path) -> None:
    raw = write_tiny_voc(tmp_path, n_val=5, size=(64, 48)) | {"image_size": [96, 200], "augment": FULL}
    data = VocData.model_validate(raw)
    val = open_data(data).val
    batches = list(eval_batches(val, data, batch_size=2))
    assert [b.indices for b in batches] == [(0, 1), (2, 3), (4,)]
    assert batches[0].images_B3HW.shape == (2, 3, 96, 128)
    assert batches[0].sizes_B2.tolist() == [[96, 128]] * 2
    assert batches[0].scales_B2.tolist() == [[2, 2]] * 2


def test_evaluation_pads_no_image_for_the_sake_of_another() -> None:
    sizes = [(40, 50), (33, 90), (60, 60), (20, 20), (64, 33)]
    batches = list(eval_batches(Plain(sizes), digits(), batch_size=2))
    assert [b.indices for b in batches] == [(0, 2), (4,), (1,), (3,)]
    assert [tuple(b.images_B3HW.shape[2:]) for b in batches] == [(64, 64), (64, 64), (64, 96), (32, 32)]


def test_resized_boxes_stay_on_their_objects(tmp_path: Path) -> None:
    data = VocData.model_validate(write_tiny_voc(tmp_path) | {"image_size": [96, 200]})
    train = open_data(data).train
    batch = train_batch(train, data, step=0, batch_size=4, seed=0)
    for n, id in enumerate(batch.image_ids):
        count = int(batch.targets.valid_BG[n].sum())
        x1, y1, x2, y2 = batch.targets.boxes_BG4[n, count - 1].int().tolist()
        inside = batch.images_B3HW[n, :, y1 + 3 : y2 - 3, x1 + 3 : x2 - 3].float().mean((1, 2))
        assert int(inside.argmax()) == int(train.records[id].labels[-1])


@pytest.mark.parametrize("augment", [{}, {"flip": 0.5}, FULL])
def test_files_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: dict[str, float]) -> None:
    data = VocData.model_validate(write_tiny_voc(tmp_path) | {"augment": augment})
    train = open_data(data).train
    decoded: list[int] = []
    load: Callable[[int], np.ndarray] = train.load_image
    monkeypatch.setattr(train, "load_image", lambda i: decoded.append(i) or load(i))
    for step in range(6):
        train_batch(train, data, step=step, batch_size=4, seed=0)
    assert sorted(decoded) == [0, 1, 2, 3]


def test_the_pixel_cache_stays_within_its_limit() -> None:
    cache, made = PixelCache(max_bytes=250), []

    def make(key: int) -> np.ndarray:
        made.append(key)
        return np.full(100, key, np.uint8)

    for _ in range(2):
        for key in range(4):
            assert cache.get(key, lambda key=key: make(key))[0] == key  # type: ignore[misc]
    assert made == [0, 1, 2, 3, 2, 3]


def test_difficult_objects_are_not_trained_on(tmp_path: Path) -> None:
    data = VocData.model_validate(write_tiny_voc(tmp_path, n_train=1))
    (tmp_path / "Annotations/img000.xml").write_text(voc_xml("img000", 64, 48, [("red", (4, 4, 20, 20))], difficult=1))
    batch = train_batch(open_data(data).train, data, step=0, batch_size=1, seed=0)
    assert not batch.targets.valid_BG.any()


def test_prefetch_keeps_the_order() -> None:
    assert list(prefetch(lambda n: n * n, 3, 40)) == [n * n for n in range(3, 40)]
    assert list(prefetch(lambda n: n, 5, 5)) == []


def test_prefetch_raises_in_the_consumer_at_the_right_item() -> None:
    def make(n: int) -> int:
        if n == 3:
            raise DataError("broken")
        return n

    items = prefetch(make, 0, 10)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="broken"):
        next(items)


def test_prefetch_ends_its_threads_when_closed() -> None:
    made: list[int] = []
    items = prefetch(lambda n: made.append(n) or n, 0, 10_000)
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("bcd-prefetch")]
    assert len(made) < 20


def test_prefetched_batches_equal_direct_ones() -> None:
    data = digits(augment=FULL)
    train = open_data(data).train

    def make(step: int) -> Batch:
        return train_batch(train, data, step=step, batch_size=4, seed=2)

    assert all(equal(batch, make(step)) for step, batch in enumerate(prefetch(make, 0, 6)))
