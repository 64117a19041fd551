"""An installation on a temporary folder for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
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


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path) -> Settings:
    (tmp_path / "home").mkdir()
    shutil.copy(empty_database, tmp_path / "home" / "bcd.db")
    return make_settings(tmp_path, poll_seconds=0.01)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with make_client(settings) as client:
        yield client
