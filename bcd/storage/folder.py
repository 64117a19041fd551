"""Storage on a local folder: `objects/ab/<sha256>` below it, `tmp/` for what is being written.

A file appears under its final name only when it is complete and on disk, and is checked against its hash when it is
read, so a truncated or flipped file is found and never used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bcd.records import StoredObject
from bcd.storage.store import CHUNK, CorruptObject, StorageUnavailable, checked_key, damaged, hash_of, object_key

# Faults of one file. Others, such as a network disk that is away, say nothing about what is stored.
_OF_THE_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO})


class FolderStore:
    """`Store` on the folder `root`, which is made when first written to."""

    def __init__(self, root: Path):
        self.root = root

    def put(self, path: Path, *, step: int = 0) -> StoredObject:
        with path.open("rb") as source:
            aside = self._tmp / f"{os.getpid()}-{secrets.token_hex(8)}"
            try:
                aside.parent.mkdir(parents=True, exist_ok=True)
                digest, size = _copy_hashed(source, aside)
                key = object_key(digest)
                target = self.root / key
                target.parent.mkdir(parents=True, exist_ok=True)
                # Always renamed into place, even over an existing object: that heals one which was damaged on disk.
                os.replace(aside, target)
                _sync_folder(target.parent)
            except OSError as error:
                raise self._unavailable("written", error) from error
            finally:
                with contextlib.suppress(OSError):
                    aside.unlink(missing_ok=True)
        return StoredObject(key=key, sha256=digest, size=size, step=step)

    def get(self, stored: StoredObject, *, into: Path) -> Path:
        path = self._path(stored.key)
        with self._reading(stored.key), path.open("rb") as file:
            digest = hash_of(file)
        if digest != stored.sha256:
            raise damaged(stored.key, digest)
        return path

    def size(self, key: str) -> int | None:
        path = self._path(key)
        try:
            with self._reading(key):
                found = path.stat()
        except CorruptObject:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        path = self._path(key)
        with self._reading(key):
            file = path.open("rb")
        return self._blocks(file, key, start, end)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unavailable("written", error) from error

    def sweep_partial(self, before: float) -> None:
        try:
            found = list(self._tmp.iterdir()) if self._tmp.is_dir() else []
            for path in found:
                with contextlib.suppress(FileNotFoundError):  # its writer was quicker
                    if path.stat().st_mtime < before:
                        path.unlink()
        except OSError as error:
            raise self._unavailable("written", error) from error

    def check(self) -> None:
        probe = self._tmp / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            self._tmp.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"is there room?")
            probe.unlink()
        except OSError as error:
            raise self._unavailable("written", error) from error

    # ---------------------------------------------------------------------------------------------- details

    @property
    def _tmp(self) -> Path:
        return self.root / "tmp"

    def _path(self, key: str) -> Path:
        """The path of a key, whether or not the file exists. Raises `CorruptObject`."""
        path = Path(os.path.realpath(self.root / checked_key(key)))
        if not path.is_relative_to(os.path.realpath(self.root)):
            raise CorruptObject(f"{key} leads out of the storage folder")
        return path

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """Tells a file that is missing or unreadable from a storage folder that is."""
        try:
            yield
        except OSError as error:
            if error.errno in _OF_THE_FILE and self.root.is_dir():
                raise CorruptObject(f"cannot read {key}: {error.strerror or error}") from error
            raise self._unavailable("read", error) from error

    def _blocks(self, file: BinaryIO, key: str, start: int, end: int) -> Iterator[bytes]:
        with file:
            with self._reading(key):
                file.seek(start)
            while start < end:
                with self._reading(key):
                    block = file.read(min(CHUNK, end - start))
                if not block:
                    raise CorruptObject(f"{key} ends at byte {start}, {end} were expected")
                start += len(block)
                yield block

    def _unavailable(self, what: str, error: OSError) -> StorageUnavailable:
        return StorageUnavailable(f"the storage folder {self.root} cannot be {what}: {error.strerror or error}")


def _copy_hashed(source: BinaryIO, target: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as writer:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            writer.write(chunk)
            size += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest(), size


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: it lives in the folder, not in the file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
