"""Content-addressed storage on a local folder: `objects/ab/<sha256>`.

A file appears under its final name only when it is complete and on disk, and is checked against its hash when it is
read, so a truncated or flipped file is found and never used.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from bcd.records import StoredObject

_CHUNK = 1 << 20


class CorruptObject(Exception):
    """A stored file is missing or is not what its hash says."""


class Storage:
    """Files by content under `root` (an installation's `storage` folder)."""

    def __init__(self, root: Path):
        self.root = root

    def put(self, path: Path, *, step: int = 0) -> StoredObject:
        """Store a copy of the file at `path` and return its identity. Storing the same content again is harmless.

        Raises OSError when the file cannot be read or the storage is full; nothing half-written stays visible.
        """
        aside = self.root / "tmp" / f"{os.getpid()}-{secrets.token_hex(8)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            digest, size = _copy_hashed(path, aside)
            key = f"objects/{digest[:2]}/{digest}"
            target = self.root / key
            target.parent.mkdir(parents=True, exist_ok=True)
            # Always renamed into place, even over an existing object: that heals one which was damaged on disk.
            os.replace(aside, target)
            _sync_folder(target.parent)
        finally:
            aside.unlink(missing_ok=True)
        return StoredObject(key=key, sha256=digest, size=size, step=step)

    def get(self, stored: StoredObject) -> Path:
        """The path of a stored file whose content was just checked. Raises `CorruptObject`."""
        path = self.root / stored.key
        try:
            digest = _hash(path)
        except OSError as error:
            raise CorruptObject(f"cannot read {stored.key}: {error.strerror or error}") from error
        if digest != stored.sha256:
            raise CorruptObject(f"{stored.key} is damaged: its content has hash {digest[:12]}...")
        return path


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy_hashed(source: Path, target: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
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
