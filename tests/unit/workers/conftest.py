"""A service that lives in memory: it keeps what the outbox delivers and can be away, forget, refuse or go stale."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from bcd.records import Record, RecordAck, Ticket
from workers.channel import Refused, SequenceGap, Stale, Unreachable


class FakeService:
    """A `Channel`: stores records in order of their numbers, like the real service."""

    def __init__(self, ticket: Ticket | None = None):
        self.records: list[Record] = []
        self.batches: list[list[Record]] = []
        self.away = self.stale = self.cancel = False
        self.refuse: Callable[[Record], bool] = lambda record: False
        self.lose_answers = 0
        self.lease_seconds = 30.0
        self._ticket = ticket
        self.changed = threading.Condition()

    def ticket(self) -> Ticket:
        self._reach()
        assert self._ticket is not None
        return self._ticket

    def deliver(self, records: Sequence[Record]) -> RecordAck:
        self._reach()
        with self.changed:
            self.batches.append(list(records))
            if any(self.refuse(record) for record in records):
                raise Refused("422: not like this")
            for record in records:
                if record.seq > len(self.records) + 1:
                    raise SequenceGap(len(self.records) + 1)
                if record.seq == len(self.records) + 1:
                    self.records.append(record)
            self.changed.notify_all()
        if self.lose_answers:
            self.lose_answers -= 1
            raise Unreachable("the connection broke before the answer came")
        return RecordAck(acked=len(self.records), cancel=self.cancel, lease_seconds=self.lease_seconds)

    def _reach(self) -> None:
        if self.stale:
            raise Stale("a newer attempt runs")
        if self.away:
            raise Unreachable("connection refused")

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout=20), "the service never saw what was expected"


@pytest.fixture
def service() -> FakeService:
    return FakeService()
