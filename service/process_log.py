"""How the processes log: lines for people, or JSON lines with request, job and attempt ids (`BCD_LOG_FORMAT=json`).

What a line is about is kept in a context variable, so no function hands ids around only to have them logged.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_about: ContextVar[dict[str, str]] = ContextVar("bcd_log_about", default={})  # noqa: B039 (never changed in place)
CHATTY = ("alembic", "httpx", "uvicorn.access", "botocore", "urllib3")


@contextmanager
def about(**ids: str | None) -> Iterator[None]:
    """Within the block every line carries these ids (`request_id`, `job_id`, `attempt_id`)."""
    token = _about.set({**_about.get(), **{key: value for key, value in ids.items() if value is not None}})
    try:
        yield
    finally:
        _about.reset(token)


def configure(process: str) -> None:
    """Set up the root logger of a process; `process` is its name in JSON lines. Raises SystemExit for a bad format."""
    wanted = os.environ.get("BCD_LOG_FORMAT") or "text"
    if wanted not in ("text", "json"):
        raise SystemExit(f"BCD_LOG_FORMAT={wanted!r} is not known: use text or json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process) if wanted == "json" else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class TextLines(logging.Formatter):
    """`2026-11-25 22:00:00,000 INFO bcd.api: text [job_id=job_...]`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        ids = " ".join(f"{key}={value}" for key, value in _about.get().items() if value not in line)
        return f"{line} [{ids}]" if ids and "\n" not in line else line


class JsonLines(logging.Formatter):
    """One JSON object for each line; a traceback is one of its fields."""

    def __init__(self, process: str):
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
