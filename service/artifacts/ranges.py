"""Which bytes of a file a request asks for: `Range`, `If-Range` and `If-None-Match` (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re

_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,20})-([0-9]{0,20})[ \t]*", re.IGNORECASE)


class NotSatisfiable(Exception):
    """The range begins behind the end of the file, or has no bytes."""


def asked_range(header: str | None, if_range: str | None, *, size: int, etag: str) -> tuple[int, int] | None:
    """The half-open range of bytes to send, None for the whole file. Raises `NotSatisfiable`.

    The whole file answers what is not one valid range of bytes: other units, other syntax, several ranges (all of
    which the standard permits), and a range of a file that has changed meanwhile (`If-Range`; there are no dates).
    """
    if header is None or (if_range is not None and if_range.strip() != etag):
        return None
    found = _ONE_RANGE.fullmatch(header.strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        if int(last) == 0:
            raise NotSatisfiable
        return (max(0, size - int(last)), size) if size else None
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise NotSatisfiable
    return int(first), min(int(last) + 1, size) if last else size


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Does the client have this content already?"""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or "*" in tags
