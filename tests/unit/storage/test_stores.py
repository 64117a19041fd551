"""Both kinds of storage give back exactly what was put in, or say that they cannot."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bcd.records import StoredObject
from bcd.storage import BadAddress, CorruptObject, StorageUnavailable, Store, object_key, open_store, read_address
from tests.helpers.s3 import Inside, closed_port, new_bucket, s3_client, s3_server, use_server

SIZE = 3_000_000
ABSENT = object_key("a" * 64)


@pytest.fixture
def store(storage_uri: str) -> Store:
    return open_store(storage_uri)


@pytest.fixture
def inside(storage_uri: str) -> Inside:
    return Inside(storage_uri)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


def everything(store: Store, stored: StoredObject) -> bytes:
    return b"".join(store.read(stored.key, 0, stored.size))


# ------------------------------------------------------------------------------------------ what goes in comes out


def test_a_stored_file_is_named_by_its_hash_and_reads_back(store, inside, weights, tmp_path):
    stored = store.put(weights, step=40)
    assert stored.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (stored.key, stored.size, stored.step) == (f"objects/{stored.sha256[:2]}/{stored.sha256}", SIZE, 40)
    assert store.size(stored.key) == SIZE
    assert everything(store, stored) == weights.read_bytes()
    assert inside.names() == [stored.key]
    got = store.get(stored, into=tmp_path / "into")
    assert (got.name, got.read_bytes()) == (stored.sha256, weights.read_bytes())
    assert store.get(stored, into=tmp_path / "into") == got  # once more is harmless


def test_a_file_of_several_parts_reads_back(store, tmp_path):
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(40_000_000))
    stored = store.put(large)
    assert stored.sha256 == hashlib.sha256(large.read_bytes()).hexdigest()
    assert store.get(stored, into=tmp_path / "into").read_bytes() == large.read_bytes()
    assert b"".join(store.read(stored.key, 16_777_000, 33_555_000)) == large.read_bytes()[16_777_000:33_555_000]


def test_an_empty_file_is_a_file(store, tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    stored = store.put(empty)
    assert (stored.size, store.size(stored.key), everything(store, stored)) == (0, 0, b"")
    assert store.get(stored, into=tmp_path / "into").read_bytes() == b""


def test_storing_twice_keeps_one_file(store, inside, weights):
    assert store.put(weights) == store.put(weights)
    assert len(inside.names()) == 1


def test_many_store_the_same_content_at_once_while_others_read_it(store, inside, weights, tmp_path):
    stored, begin = store.put(weights), threading.Barrier(8)

    def put_or_get(number: int) -> bool:
        begin.wait()
        if number % 2:
            return store.put(weights) == stored
        return store.get(stored, into=tmp_path / "shared").read_bytes() == weights.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(put_or_get, range(8)))
    assert inside.names() == [stored.key]
    assert list((tmp_path / "shared").glob(".*")) == []


@pytest.mark.parametrize(("start", "end"), [(0, 1), (5, 13), (SIZE - 1, SIZE), (1_048_575, 2_097_154), (7, 7)])
def test_any_range_of_bytes_can_be_read(store, weights, start, end):
    stored = store.put(weights)
    assert b"".join(store.read(stored.key, start, end)) == weights.read_bytes()[start:end]


def test_what_was_deleted_is_gone_and_deleting_it_again_is_harmless(store, inside, weights, tmp_path):
    stored = store.put(weights)
    store.delete(stored.key)
    store.delete(stored.key)
    assert (store.size(stored.key), inside.names()) == (None, [])
    with pytest.raises(CorruptObject):
        store.get(stored, into=tmp_path / "into")


# ------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty", "other"])
def test_damage_is_found_when_reading_and_healed_by_storing_again(store, inside, weights, tmp_path, damage):
    stored, content = store.put(weights), bytearray(weights.read_bytes())
    content[1_234_567] ^= 1
    {
        "flip": lambda: inside.write(stored.key, bytes(content)),
        "truncate": lambda: inside.write(stored.key, weights.read_bytes()[:-1]),
        "remove": lambda: inside.remove(stored.key),
        "empty": lambda: inside.write(stored.key, b""),
        "other": lambda: inside.write(stored.key, os.urandom(SIZE)),
    }[damage]()
    with pytest.raises(CorruptObject):
        store.get(stored, into=tmp_path / "into")
    assert [path for path in tmp_path.glob("into/*") if path.is_file()] == []
    store.put(weights)
    assert store.get(stored, into=tmp_path / "into").read_bytes() == weights.read_bytes()


def test_a_fetched_copy_that_was_damaged_is_fetched_again(s3_uri, weights, tmp_path):
    store = open_store(s3_uri)
    stored = store.put(weights)
    store.get(stored, into=tmp_path).write_bytes(b"half")
    assert store.get(stored, into=tmp_path).read_bytes() == weights.read_bytes()


def test_a_file_that_is_missing_or_too_short_is_found_while_its_bytes_are_read(store, inside, weights):
    stored = store.put(weights)
    with pytest.raises(CorruptObject):
        store.read(ABSENT, 0, 10)
    inside.write(stored.key, weights.read_bytes()[:1_500_000])
    with pytest.raises(CorruptObject):
        everything(store, stored)


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "objects/ab/../../x", "objects/ab/" + "g" * 64, "objects/ab/" + "a" * 64 + "\n", "x\0"],
)
def test_only_keys_lead_anywhere(store, key):
    for use in (store.size, store.delete, lambda text: store.read(text, 0, 1)):
        with pytest.raises(CorruptObject, match="not a storage key"):
            use(key)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret").write_text("token")
    store, path = open_store(str(tmp_path / "storage")), tmp_path / "storage" / ABSENT
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(CorruptObject, match="leads out of the storage folder"):
        store.read(ABSENT, 0, 5)


# --------------------------------------------------------------------------------------------- full, away, refused


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system itself stops this process in the middle of every longer file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_half_way_leaves_nothing_behind_and_works_later(weights, tmp_path):
    root = tmp_path / "storage"
    store, inside = open_store(str(root)), Inside(str(root))
    with largest_file(1_000_000), pytest.raises(StorageUnavailable, match=f"folder {root} cannot be written: File too"):
        store.put(weights)
    assert inside.names() == []
    assert store.get(store.put(weights), into=tmp_path).read_bytes() == weights.read_bytes()


def test_a_download_that_fails_half_way_leaves_nothing_behind_and_works_later(s3_uri, weights, tmp_path):
    store = open_store(s3_uri)
    stored = store.put(weights)
    with largest_file(1_000_000), pytest.raises(OSError, match="File too large"):
        store.get(stored, into=tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []
    assert store.get(stored, into=tmp_path / "into").read_bytes() == weights.read_bytes()


def refused(store: Store, weights: Path, *names: str) -> dict[str, str]:
    """What each use of the store says (all of them, if none is named); all must find it unavailable."""
    stored = StoredObject(key=ABSENT, sha256="a" * 64, size=5)
    uses: dict[str, Callable[[], Any]] = {
        "put": lambda: store.put(weights), "get": lambda: store.get(stored, into=weights.parent / "into"),
        "size": lambda: store.size(ABSENT), "read": lambda: everything(store, stored), "check": store.check,
        "delete": lambda: store.delete(ABSENT), "sweep": lambda: store.sweep_partial(0.0),
    }  # fmt: skip
    told = {}
    for name in names or uses:
        with pytest.raises(StorageUnavailable) as found:
            uses[name]()
        told[name] = str(found.value)
    return told


def test_a_storage_folder_that_is_not_there_does_not_look_like_files_that_are_lost(tmp_path, weights):
    root = tmp_path / "unmounted"
    told = refused(open_store(str(root)), weights, "get", "size", "read")
    assert set(told.values()) == {f"the storage folder {root} cannot be read: No such file or directory"}


def test_a_storage_folder_that_is_a_file_is_refused(tmp_path, weights):
    (root := tmp_path / "file").touch()
    told = refused(open_store(str(root)), weights, "put", "get", "check")
    assert all(text.startswith(f"the storage folder {root} cannot be") for text in told.values())


def test_a_bucket_that_does_not_exist_is_named_and_no_object_counts_as_lost(s3_uri, s3_endpoint, weights):
    told = refused(open_store("s3://no-such-bucket/place"), weights)
    message = f"the bucket no-such-bucket of s3://no-such-bucket/place does not exist at {s3_endpoint}: make it, or"
    assert [name for name, text in told.items() if not text.startswith(message)] == []


def test_missing_credentials_are_named(s3_uri, weights, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    told = refused(open_store(s3_uri), weights)
    message = f"there are no credentials for {s3_uri}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert [name for name, text in told.items() if not text.startswith(message)] == []


def test_a_server_that_does_not_answer_is_named(s3_uri, weights, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint := f"http://127.0.0.1:{closed_port()}")
    told = refused(open_store(s3_uri), weights, "put", "get", "read")
    message = f'{s3_uri} cannot be reached: Could not connect to the endpoint URL: "{endpoint}'
    assert [name for name, text in told.items() if not text.startswith(message)] == []


def test_an_endpoint_that_is_no_address_is_named(s3_uri, weights, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "minio:9000")
    told = refused(open_store(s3_uri), weights, "put", "check")
    assert set(told.values()) == {f"{s3_uri} cannot be asked: Invalid endpoint: minio:9000; see AWS_ENDPOINT_URL_S3"}


def test_the_same_store_works_again_when_its_server_is_back(weights, tmp_path, monkeypatch):
    with s3_server() as endpoint:
        use_server(monkeypatch, endpoint)
        store = open_store(uri := new_bucket())
        stored = store.put(weights)
    with pytest.raises(StorageUnavailable):
        store.get(stored, into=tmp_path / "into")
    with s3_server(int(endpoint.rpartition(":")[2])):  # it finds again what it held: it is a thread of this process
        assert Inside(uri).names() == [stored.key]
        assert store.get(stored, into=tmp_path / "into").read_bytes() == weights.read_bytes()


def test_both_can_be_checked_before_they_are_needed(store, inside):
    store.check()
    assert inside.names() == []


# -------------------------------------------------------------------------------------------------- half-written


def test_half_written_files_of_dead_writers_are_removed_from_a_folder(tmp_path):
    store, folder = open_store(str(tmp_path)), tmp_path / "tmp"
    store.sweep_partial(time.time())
    folder.mkdir()
    for name, age in (("old", 7200), ("recent", 60)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age, time.time() - age))
    store.sweep_partial(time.time() - 3600)
    assert [path.name for path in folder.iterdir()] == ["recent"]


def test_half_written_uploads_of_dead_writers_are_removed_from_a_bucket(s3_uri, weights):
    store, inside = open_store(s3_uri), Inside(s3_uri)
    stored, client = store.put(weights), s3_client()
    bucket = s3_uri.split("/")[2]
    for key in (f"some/place/{ABSENT}", "somebody/else"):
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"half")
    assert sorted(inside.names()) == sorted([stored.key, ABSENT, "somebody/else"])
    # This server says of every upload that it began in November 2010.
    store.sweep_partial(1_200_000_000.0)
    assert len(inside.names()) == 3
    store.sweep_partial(time.time())
    assert sorted(inside.names()) == sorted([stored.key, "somebody/else"])


# ----------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("storage", "no absolute path"),
        ("", "no absolute path"),
        ("gs://bucket/x", "storage cannot be at gs://"),
        ("file:///data", "storage cannot be at file://"),
        ("s3://", "'' is no name of an S3 bucket"),
        ("s3://My_Bucket", "'My_Bucket' is no name of an S3 bucket"),
        ("s3://bucket/a//b", "cannot be a prefix"),
        ("s3://bucket/a/../b", "cannot be a prefix"),
        ("s3://bucket/a b", "cannot be a prefix"),
        ("s3://key:secret@bucket/a", "is no name of an S3 bucket"),
    ],
)
def test_what_is_no_address_of_storage_is_refused(text, message):
    with pytest.raises(BadAddress, match=message):
        open_store(text)


def test_addresses_are_read_with_or_without_a_prefix():
    assert read_address("/data/bcd") == Path("/data/bcd")
    assert [str(read_address(text)) for text in ("s3://bucket", "s3://bucket/", "s3://bucket/a/b/")] == [
        "s3://bucket", "s3://bucket", "s3://bucket/a/b",
    ]  # fmt: skip
