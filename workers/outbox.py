"""The append-only outbox of one attempt: what the worker has to say, on disk first, then delivered until acknowledged.

The training loop only appends (a write to a local file). A thread of its own delivers in order, with heartbeats in
between, and learns from each answer whether to stop. The service may be away for hours: nothing is lost, nothing waits.
"""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bcd.records import LogRecord, Record, StateRecord, record_adapter
from workers.channel import Channel, Refused, SequenceGap, Stale, Unreachable
from workers.redact import redact

SEND_EVERY = 0.3  # seconds; the delay that a person watching the run may notice
LONGEST_PAUSE = 5.0  # seconds between tries while the service is away
BATCH_RECORDS = 1000  # the wire format allows 2000
BATCH_BYTES = 400_000  # the service takes bodies of 1 MB
_TEXTS = ("text", "cause", "traceback")  # what people read, and what may quote a secret
DURABLE = frozenset({"artifact", "evaluation", "state"})


class Outbox:
    """Records of one attempt. `append` from any thread; delivery runs until `close`.

    `cancel` is set when the service asks to stop, `stale` when this attempt was replaced (nothing more is sent).
    Memory is bounded by one batch: unsent records live in the file only.
    """

    def __init__(
        self,
        path: Path,
        channel: Channel,
        *,
        next_seq: int = 1,
        lease_seconds: float = 30.0,
        send_every: float = SEND_EVERY,
        longest_pause: float = LONGEST_PAUSE,
        clock: Callable[[], float] = time.time,
    ):
        self.path = path
        self.cancel = threading.Event()
        self.stale = threading.Event()
        self._channel, self._clock = channel, clock
        self._lease, self._send_every, self._longest_pause = lease_seconds, send_every, longest_pause
        path.parent.mkdir(parents=True, exist_ok=True)
        self._size = _drop_torn_line(path)
        self._acked = next_seq - 1
        self._last = max(self._acked, max((r.seq for r in read_records(path)), default=0))
        self._place = 0  # file offset at which the first record that is not yet acknowledged can be found
        self._patched: dict[int, Record] = {}  # refused records, replaced by a log line under their number
        self._lock = threading.Lock()
        self._wake, self._closing, self._abandon = threading.Event(), threading.Event(), threading.Event()
        self._file = path.open("ab", buffering=0)
        self._thread = threading.Thread(target=self._deliver_all, name="outbox", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Records that the service has not acknowledged yet."""
        return self._last - self._acked

    def append(self, kind: str, **fields: Any) -> int:
        """Write one record and return its number. Raises `ValidationError` for a malformed one, OSError (disk full).

        Records that must survive a power cut (artifacts, evaluations, states) are synced to disk before returning.
        """
        with self._lock:
            values = {"kind": kind, "seq": self._last + 1, "time": self._clock(), **fields}
            values |= {key: redact(values[key]) for key in _TEXTS if values.get(key)}
            record = record_adapter.validate_python(values)
            self._write(record.model_dump_json().encode() + b"\n", durable=kind in DURABLE)
            self._last = record.seq
        if isinstance(record, StateRecord):
            self._wake.set()
        return record.seq

    def close(self, timeout: float) -> bool:
        """Deliver what is left for at most `timeout` seconds, then stop. True when everything was acknowledged."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)
        self._abandon.set()
        self._wake.set()
        self._thread.join(1.0)
        with self._lock:
            self._file.close()
        return self.pending == 0

    def _write(self, line: bytes, *, durable: bool) -> None:
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            if durable:
                os.fsync(self._file.fileno())
        except OSError:
            # A half-written line would hide everything after it.
            os.truncate(self.path, self._size)
            raise
        self._size += len(line)

    # ------------------------------------------------------------------------------------------- delivery

    def _deliver_all(self) -> None:
        pause, tries, contact = 0.0, 0, 0.0
        while not self._abandon.is_set():
            self._wait(pause)
            batch = self._next_batch()
            if not batch:
                if self._closing.is_set() and self.pending == 0:
                    return
                if time.monotonic() - contact < self._lease / 3:
                    pause = self._send_every
                    continue
            try:
                self._deliver(batch)
            except Stale:
                self.stale.set()
                return
            except Unreachable:
                tries += 1
                # Full jitter: many workers must not come back in step.
                pause = min(self._longest_pause, self._send_every * 2 ** min(tries, 10)) * random.uniform(0.5, 1.0)
                continue
            tries, contact = 0, time.monotonic()
            more = self.pending > 0 and (self._closing.is_set() or len(batch) > BATCH_RECORDS // 2)
            pause = self._send_every / 10 if more else self._send_every

    def _wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _deliver(self, batch: list[Record]) -> None:
        try:
            ack = self._channel.deliver(batch)
        except SequenceGap as gap:
            if batch and gap.expected == batch[0].seq:
                raise Unreachable("the service contradicts itself about the next record") from gap
            self._rewind(gap.expected)
            return
        except Refused as refused:
            self._isolate(batch, refused)
            return
        self._lease = ack.lease_seconds
        self._acked = max(self._acked, ack.acked)
        self._patched = {seq: record for seq, record in self._patched.items() if seq > self._acked}
        if ack.cancel:
            self.cancel.set()

    def _isolate(self, batch: list[Record], refused: Refused) -> None:
        """Find the record that the service will never take, one half at a time, and send a log line in its place."""
        if len(batch) > 1:
            self._deliver(batch[: len(batch) // 2])
            return
        if not batch or batch[0].seq in self._patched:
            raise Unreachable(str(refused)) from refused
        first = batch[0]
        if isinstance(first, StateRecord):
            patch: Record = StateRecord(seq=first.seq, time=first.time, state=first.state, retryable=first.retryable)
        else:
            text = f"the service refused a {first.kind} record ({refused})"
            patch = LogRecord(seq=first.seq, time=first.time, level="error", text=text)
        self._patched[first.seq] = patch

    def _rewind(self, expected: int) -> None:
        with self._lock:
            self._acked, self._place = expected - 1, 0
            self._last = max(self._last, expected - 1)

    def _next_batch(self) -> list[Record]:
        """The records after the acknowledged ones, in order, as many as one request may carry.

        None when the file cannot be read: the heartbeat that then goes out tells whether anybody still wants it (the
        dispatcher removes the folder of an attempt that it has given up).
        """
        last = self._last  # what comes later in the file is being written and may be taken back
        if last == self._acked:
            return []
        try:
            return self._read_batch(last)
        except OSError:
            return []

    def _read_batch(self, last: int) -> list[Record]:
        batch: list[Record] = []
        size = 0
        with self.path.open("rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                record = _parse(line)
                if record is not None and record.seq > last:
                    break
                if record is None or record.seq <= self._acked:
                    if not batch:
                        self._place += len(line)
                    continue
                size += len(line)
                if batch and (size > BATCH_BYTES or len(batch) >= BATCH_RECORDS):
                    break
                batch.append(self._patched.get(record.seq, record))
        return batch


def read_records(path: Path, *, above: int = 0) -> Iterator[Record]:
    """The complete records of an outbox file with a number above `above`, in order. A missing file has none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            record = _parse(line) if line.endswith(b"\n") else None
            if record is not None and record.seq > above:
                yield record


def _parse(line: bytes) -> Record | None:
    try:
        return record_adapter.validate_json(line)
    except ValidationError:
        return None


def _drop_torn_line(path: Path) -> int:
    """Cut off what a crash left half-written at the end of the file; returns the size of what stays, in bytes."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(path, whole)
    return whole
