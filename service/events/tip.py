"""How far the events reach: looked up once for all streams of a process, so that a quiet one costs nothing."""

from __future__ import annotations

import threading
import time

from service.db import Database
from service.events.service import settled


class Tip:
    """The place up to which events can be read, at most `seconds` old."""

    def __init__(self, db: Database, seconds: float):
        self._db, self._seconds = db, seconds
        self._lock = threading.Lock()
        self._place, self._read_at = 0, -1e9

    def place(self, *, fresh: bool = False) -> int:
        """The id of the last event that can be read: none will still come before it. `fresh`: as of now."""
        with self._lock:
            if fresh or time.monotonic() - self._read_at >= self._seconds:
                with self._db.read() as session:
                    self._place = settled(session)
                self._read_at = time.monotonic()
            return self._place
