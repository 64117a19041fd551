"""Stored files: from a key in the database to a path under the storage folder, and removal of what nobody names."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from bcd.records import OBJECT_KEY
from service.settings import Settings

log = logging.getLogger("bcd.storage")

_KEY = re.compile(OBJECT_KEY.removeprefix("^").removesuffix("$"))


class BadKey(ValueError):
    """A key that is not of the form `objects/ab/<sha256>` or leads out of the storage folder."""


def object_key(sha256: str) -> str:
    """The key under which content with this hash is stored."""
    return f"objects/{sha256[:2]}/{sha256}"


def resolve(settings: Settings, key: str) -> Path:
    """The path of a key, whether or not the file exists. Raises `BadKey`."""
    if not _KEY.fullmatch(key):
        raise BadKey(f"not a storage key: {key!r}")
    root = settings.storage.resolve()
    path = (root / key).resolve()
    if not path.is_relative_to(root):
        raise BadKey(f"the storage key {key!r} leads out of the storage folder")
    return path


def remove(settings: Settings, keys: Iterable[str]) -> None:
    """Delete stored files that no row names any more; what cannot be deleted is logged and left."""
    for key in keys:
        try:
            resolve(settings, key).unlink(missing_ok=True)
        except (BadKey, OSError) as error:
            log.warning("could not remove %s from storage: %s", key, error)
