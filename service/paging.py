"""Pages of a list in a stable order: the cursor holds the last row's sort key, so new rows shift nothing."""

from __future__ import annotations

import base64
import binascii
import json
import math

from service.errors import Problem


def encode_cursor(created_at: float, id: str) -> str:
    """An opaque text for the place after this row."""
    return base64.urlsafe_b64encode(json.dumps([created_at, id]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """The place that a cursor stands for. Raises `Problem` 422 for anything that `encode_cursor` did not make."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, id = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
        if isinstance(created_at, float) and math.isfinite(created_at) and isinstance(id, str) and id.isprintable():
            return created_at, id
    except (ValueError, TypeError, binascii.Error, RecursionError):
        pass
    message = "not a cursor of this list; use `next_cursor` of the page before, or none to start over"
    raise Problem(422, f"cursor: {message}", errors=[("?cursor", message)])
