"""Whoever follows the events sees each of them once, also those that commit out of order."""

from __future__ import annotations

import time

from starlette.testclient import TestClient

from service.events.service import SETTLE_SECONDS
from service.events.tail import tail
from service.models import Event


def _write(client: TestClient, *ids: int, age: float = 0.0) -> None:
    with client.app.state.db.write() as session:
        moment = time.time() - age
        session.add_all(Event(id=id, time=moment, type="job.state", actor="user", data={}) for id in ids)


def _ids(client: TestClient, after: int, **more: int) -> list[int]:
    with client.app.state.db.read() as session:
        return [one.id for one in tail(session, after, now=time.time(), **more)]


def test_new_events_come_in_order_and_in_parts(client: TestClient) -> None:
    _write(client, 1, 2, 3, 4, 5)
    assert _ids(client, 0, limit=2) == [1, 2]
    assert _ids(client, 2, limit=2) == [3, 4]
    assert _ids(client, 5) == []


def test_a_hole_that_is_young_is_waited_for(client: TestClient, database_kind: str) -> None:
    _write(client, 1, 2, 4)
    # SQLite commits in the order of ids: what is missing was never there
    assert _ids(client, 0) == ([1, 2] if database_kind == "postgresql" else [1, 2, 4])
    assert _ids(client, 2) == ([] if database_kind == "postgresql" else [4])
    _write(client, 3)
    assert _ids(client, 2) == [3, 4]


def test_a_hole_that_stays_is_of_a_transaction_that_was_rolled_back(client: TestClient) -> None:
    _write(client, 1, 2, 4, age=SETTLE_SECONDS + 1)
    assert _ids(client, 0) == [1, 2, 4]
