"""The published API as a file, docs/openapi.json: clients are generated from it, and it changes only on purpose.

`python -m tests.helpers.openapi` (or `make openapi`) writes it anew after an intended change.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from service.app import create_app
from service.settings import Settings

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


def published() -> dict[str, Any]:
    """What `GET /openapi.json` answers."""
    with tempfile.TemporaryDirectory() as home:
        document: dict[str, Any] = create_app(Settings.load(home)).openapi()
    return document


def text_of(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text_of(published()), encoding="utf-8")
    sys.stdout.write(f"{FILE} written\n")
