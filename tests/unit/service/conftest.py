"""An installation on a temporary folder for each test, on SQLite.

With `BCD_TEST_POSTGRES=postgresql+psycopg://user@host:port/postgres` the same tests run on PostgreSQL: each gets a
database of its own on that server.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from starlette.testclient import TestClient

from service import migrations
from service.settings import Settings
from tests.helpers.api import make_client, make_settings


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: cheaper than migrating for each test."""
    path = tmp_path_factory.mktemp("template") / "bcd.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


POSTGRES = os.environ.get("BCD_TEST_POSTGRES")


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path) -> Iterator[Settings]:
    if POSTGRES:
        name = f"bcd_test_{secrets.token_hex(4)}"
        _on_server(f"CREATE DATABASE {name}")
        url = make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
        yield make_settings(tmp_path, poll_seconds=0.01, database_url=url)
        _on_server(f"DROP DATABASE {name} WITH (FORCE)")
        return
    (tmp_path / "home").mkdir()
    shutil.copy(empty_database, tmp_path / "home" / "bcd.db")
    yield make_settings(tmp_path, poll_seconds=0.01)


def _on_server(statement: str) -> None:
    engine = create_engine(str(POSTGRES), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with make_client(settings) as client:
        yield client
