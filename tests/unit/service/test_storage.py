"""The service's side of storage: where it is, and that files go when nothing names them any more."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bcd.storage import Store
from service import storage
from service.settings import Settings
from tests.helpers.api import start
from tests.helpers.s3 import Inside


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # here storage is of several kinds


@pytest.fixture
def settings(settings: Settings, storage_uri: str) -> Settings:
    return replace(settings, storage_uri=storage_uri)


def send_checkpoints(client: TestClient, count: int) -> list[str]:
    """The keys of this job's checkpoints, which came one after another."""
    _, worker = start(client)
    records = [worker.artifact("checkpoint", f"step-{i}", i, b"checkpoint %d" % i) for i in range(1, count + 1)]
    for record in records:
        worker.send(record)
    return [record["key"] for record in records]


def test_only_the_newest_three_checkpoints_are_kept(client: TestClient, storage_uri: str) -> None:
    keys = send_checkpoints(client, 5)
    assert sorted(Inside(storage_uri).names()) == sorted(keys[2:])


def test_no_connection_to_the_database_is_held_while_files_are_deleted(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app: Any = client.app
    held: list[int] = []
    kind: Any = type(storage.of(settings))
    delete = kind.delete

    def watched(self: Store, key: str) -> None:
        held.append(app.state.db.engine.pool.checkedout())
        delete(self, key)

    monkeypatch.setattr(kind, "delete", watched)
    send_checkpoints(client, 5)
    assert held == [0, 0]


def test_what_cannot_be_deleted_is_left_and_told_and_holds_up_nobody(
    client: TestClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    _, worker = start(client)
    records = [worker.artifact("checkpoint", f"step-{i}", i, b"checkpoint %d" % i) for i in range(1, 5)]
    app: Any = client.app
    nowhere = "s3://no-such-bucket" if settings.storage is None else str(settings.token_file)
    app.state.settings = replace(settings, storage_uri=nowhere)
    with caplog.at_level(logging.WARNING, "bcd.storage"):
        assert worker.send(*records)["acked"] == worker.seq
    assert "not removed from storage: objects/" in caplog.text


@pytest.mark.parametrize("text", ["here", "gs://bucket/x", "s3://Bucket"])
def test_a_place_that_cannot_hold_storage_is_refused_by_name(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BCD_STORAGE", text)
    with pytest.raises(SystemExit, match=r"BCD_STORAGE: .*s3://bucket/prefix"):
        Settings.load(tmp_path)


def test_the_place_is_the_home_folder_unless_another_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BCD_STORAGE", raising=False)
    assert Settings.load(tmp_path).storage == tmp_path / "storage"
    monkeypatch.setenv("BCD_STORAGE", "/data/bcd")
    assert Settings.load(tmp_path).storage == Path("/data/bcd")
    monkeypatch.setenv("BCD_STORAGE", "s3://bucket/prefix")
    assert Settings.load(tmp_path).storage is None
    assert Settings.load(tmp_path).storage_uri == "s3://bucket/prefix"
