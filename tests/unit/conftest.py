"""What tests need of a database and of storage.

Whoever asks for a database runs on SQLite and on PostgreSQL, whoever asks for storage on a folder and on S3.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import migrations
from tests.helpers.postgres import PostgresServer

# `make test` takes one after the other; by hand a test runs on both.
DATABASES = os.environ.get("BCD_TEST_DATABASES", "sqlite,postgresql").split(",")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: cheaper than migrating for each test."""
    path = tmp_path_factory.mktemp("template") / "bcd.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    url = postgres.create_database()
    migrations.upgrade(url)
    return url


@pytest.fixture(params=DATABASES)
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without any table (on SQLite not even the file is there)."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path}/not/yet/there/bcd.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create_database()
    yield url
    server.drop(url)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a migrated database without any row, this test's own."""
    if database_kind == "sqlite":
        path = tmp_path / "database" / "bcd.db"
        path.parent.mkdir()
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    template = request.getfixturevalue("migrated_postgres")
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create_database(template)
    yield url
    server.drop(url)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """One S3 server for all tests of the process; started when the first one asks (seconds)."""
    from tests.helpers.s3 import s3_server

    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_uri(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in an empty bucket of that server, which the AWS environment names."""
    from tests.helpers.s3 import new_bucket, use_server

    use_server(monkeypatch, s3_endpoint)
    return new_bucket()


@pytest.fixture(params=["folder", "s3"])
def storage_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "storage")
    uri: str = request.getfixturevalue("s3_uri")
    return uri
