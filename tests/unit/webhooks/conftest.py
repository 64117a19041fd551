"""An installation on both databases that may call receivers on loopback, a receiver, and what delivers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from service.settings import Settings
from service.webhooks.deliver import Deliveries
from tests.helpers.api import make_client, make_settings
from tests.helpers.receiver import Receiver


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    public = "https://bcd.example.org"
    return make_settings(tmp_path, database_url=database_url, webhook_allow=("127.0.0.1",), public_url=public)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with make_client(settings) as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Clock:
    """Unix seconds, ahead of everybody else's by what the test says."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds

    def advance_to(self, moment: float) -> None:
        self._ahead = moment - time.time()


class Dispatcher:
    """What delivers, one round at a time."""

    def __init__(self, settings: Settings, db: Any, clock: Clock):
        self.clock = clock
        self.deliveries = Deliveries(settings, db, clock=clock)

    def round(self, after: float = 0.0) -> None:
        self.clock.advance(after)
        self.deliveries.round()
        self.deliveries.settle()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dispatcher(settings: Settings, client: TestClient, clock: Clock) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(settings, client.app.state.db, clock)  # type: ignore[attr-defined]
    yield dispatcher
    dispatcher.deliveries.stop(timeout=1.0)


@pytest.fixture
def hook(client: TestClient, receiver: Receiver) -> Callable[..., dict[str, Any]]:
    """Makes a webhook of the receiver; as the API shows it."""

    def make(project: str = "default", **fields: Any) -> dict[str, Any]:
        made = client.post(f"/api/v1/projects/{project}/webhooks", json={"url": receiver.url, **fields})
        assert made.status_code == 201, made.text
        value: dict[str, Any] = made.json()
        return value

    return make


@pytest.fixture
def statements(client: TestClient) -> list[str]:
    """Every statement that the database gets."""
    found: list[str] = []

    @event.listens_for(client.app.state.db.engine, "before_cursor_execute")  # type: ignore[attr-defined]
    def _count(_connection, _cursor, statement, *_):  # type: ignore[no-untyped-def]
        found.append(statement)

    return found
