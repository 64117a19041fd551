"""Pages of a list in a stable order: the cursor holds the last row's sort key, so new rows shift nothing.

A cursor belongs to one list. It carries a digest of what was asked for (filter, order); another list refuses it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from service.errors import Problem

Value = str | int | float | None
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # what no database text can hold
MAX_CURSOR = 2000  # characters; the longest name in four-byte letters fits


def digest_of(*parts: Any) -> str:
    """A short name of a list: the same for the same parts (plain JSON values), on every replica."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def encode_cursor(place: Sequence[Value], *, of: str) -> str:
    """An opaque text for the place after the row with these sort values, in the list with this digest."""
    text = json.dumps([of, *place], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, types: Sequence[tuple[type, bool]], *, of: str) -> tuple[Value, ...]:
    """The sort values that a cursor holds; for each its type and whether it may be None.

    Raises `Problem` 422 for a cursor of another list and for anything that `encode_cursor` did not make.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        whole = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _foreign() from None
    if not isinstance(whole, list) or len(whole) != len(types) + 1 or whole[0] != of:
        raise _foreign()
    place = whole[1:]
    if not all(_fits(value, *type) for value, type in zip(place, types, strict=True)):
        raise _foreign()
    return tuple(place)


def _fits(value: Any, type: type, nullable: bool) -> bool:
    if value is None:
        return nullable
    if type is float:
        return isinstance(value, float) and math.isfinite(value)
    if type is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    return isinstance(value, str) and not _UNSTORABLE.search(value)


def _foreign() -> Problem:
    message = "not a cursor of this list; use `next_cursor` of the page before with the same filter, sort and state"
    return Problem(422, f"cursor: {message}; leave it out to start over", errors=[("?cursor", message)])
