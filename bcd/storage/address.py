"""Addresses of storage: the absolute path of a folder, or `s3://bucket/prefix`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*")  # what every S3 server takes unescaped


class BadAddress(ValueError):
    """The text is no address of storage, or one that cannot be used here; the message says what to write."""


@dataclass(frozen=True)
class S3Address:
    """A bucket and the prefix in it under which everything lies, without slashes at its ends."""

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".removesuffix("/")


def read_address(text: str) -> Path | S3Address:
    """The place that a text names. Raises `BadAddress`."""
    scheme, found, rest = text.partition("://")
    if not found:
        return _folder(text)
    if scheme != "s3":
        raise BadAddress(f"storage cannot be at {scheme}://: give an absolute folder or s3://bucket/prefix")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise BadAddress(
            f"{bucket!r} is no name of an S3 bucket (3 to 63 of a-z, 0-9, dot and hyphen): write s3://bucket/prefix"
        )
    if prefix and (not _PREFIX.fullmatch(prefix) or not {".", ".."}.isdisjoint(prefix.split("/"))):
        raise BadAddress(f"{prefix!r} cannot be a prefix in an S3 bucket: use letters, digits, _ . - and one / each")
    return S3Address(bucket, prefix)


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    # Several processes, each with a working folder of its own, read the same text.
    if not path.is_absolute() or "\0" in text:
        raise BadAddress(f"{text!r} is no absolute path: give the storage folder from / on, or s3://bucket/prefix")
    return path
