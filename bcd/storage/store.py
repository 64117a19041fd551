"""What storage is to its users: files by the hash of their content, and the two ways in which it can fail them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from bcd.records import OBJECT_KEY, StoredObject

CHUNK = 1 << 20  # bytes read at a time
_KEY = re.compile(OBJECT_KEY.removeprefix("^").removesuffix("$"))


class CorruptObject(Exception):
    """A stored file is missing or is not what its hash says. Asking again does not help."""


class StorageUnavailable(OSError):
    """Storage is full, cannot be reached or refuses. Nothing was changed; the same call may succeed later."""


class Store(Protocol):
    """Files by content, under keys `objects/ab/<sha256>`. Usable from several threads and processes at once.

    Every method may raise `StorageUnavailable`, and for a text that is no key `CorruptObject`.
    """

    def put(self, path: Path, *, step: int = 0) -> StoredObject:
        """Store a copy of a file that nobody changes meanwhile. It is visible when it is whole and durable.

        Storing the same content again is harmless, and heals a stored copy that was damaged.
        """
        ...

    def get(self, stored: StoredObject, *, into: Path) -> Path:
        """A local file whose content was just checked: the stored one itself, or a copy in the folder `into` that has
        the hash as its name. Raises `CorruptObject`.
        """
        ...

    def size(self, key: str) -> int | None:
        """Bytes of the stored file, None where there is none."""
        ...

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes `start` up to `end` (exclusive), unchecked, in blocks. Raises `CorruptObject` when it is missing
        at once, and when it is too short while reading.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove the stored file, if it is there."""
        ...

    def sweep_partial(self, before: float) -> None:
        """Remove what writers that died left half-written before this Unix time."""
        ...

    def check(self) -> None:
        """Can files be stored? Raises `StorageUnavailable`, whose message says what to change."""
        ...


def object_key(sha256: str) -> str:
    """The key under which content with this hash is stored."""
    return f"objects/{sha256[:2]}/{sha256}"


def checked_key(key: str) -> str:
    """The key itself. Raises `CorruptObject` for any other text: no path is ever made of one."""
    if not _KEY.fullmatch(key):
        raise CorruptObject(f"not a storage key: {key[:200]!r}")
    return key


def hash_of(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(key: str, digest: str) -> CorruptObject:
    return CorruptObject(f"{key} is damaged: its content has hash {digest[:12]}...")
