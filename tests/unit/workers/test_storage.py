"""Storage gives back exactly what was put in, or says that it cannot."""

from __future__ import annotations

import hashlib
import os

import pytest

from workers.storage import CorruptObject, Storage


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "storage")


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(3_000_000))
    return path


def test_a_stored_file_is_named_by_its_hash_and_reads_back(storage, weights):
    stored = storage.put(weights, step=40)
    assert stored.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (stored.key, stored.size, stored.step) == (f"objects/{stored.sha256[:2]}/{stored.sha256}", 3_000_000, 40)
    assert storage.get(stored).read_bytes() == weights.read_bytes()


def test_storing_twice_keeps_one_file(storage, weights):
    assert storage.put(weights) == storage.put(weights)
    assert len([path for path in storage.root.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_damage_is_found_when_reading_and_healed_by_storing_again(storage, weights, damage):
    stored = storage.put(weights)
    path = storage.root / stored.key
    content = bytearray(path.read_bytes())
    content[1_234_567] ^= 1
    {
        "flip": lambda: path.write_bytes(content),
        "truncate": lambda: os.truncate(path, 2_999_999),
        "remove": path.unlink,
        "empty": lambda: path.write_bytes(b""),
    }[damage]()
    with pytest.raises(CorruptObject):
        storage.get(stored)
    storage.put(weights)
    assert storage.get(stored).read_bytes() == weights.read_bytes()


def test_a_failed_copy_leaves_nothing_behind(storage, weights, monkeypatch):
    def full(_source, _target):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        storage.put(weights)
    assert [path for path in storage.root.rglob("*") if path.is_file()] == []
