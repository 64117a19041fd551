"""A back-up holds one moment of an installation, and restoring it loses nothing and lets nothing stale back in."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from starlette.testclient import TestClient

from service import migrations
from service.backup.backup import back_up, restore
from service.backup.rows import BadBackup, dump, load
from service.db import Database
from service.health import invariants
from service.models import Base, Job
from service.settings import Settings
from tests.helpers.api import FakeWorker, claim, distilled_spec, finish, make_client, start, submit
from tests.helpers.postgres import PostgresServer


@pytest.fixture
def lived_in(client: TestClient) -> dict[str, Any]:
    """An installation with a finished teacher, a student that waits on it and one job that runs."""
    teacher = finish(client, None, 40.0)
    student = submit(client, distilled_spec(teacher))["id"]
    running, worker = start(client)
    worker.send(
        worker.metric(1, loss=2.0), worker.metric(2, loss=1.0), worker.artifact("checkpoint", "c2", 2, b"weights")
    )
    return {"teacher": teacher, "student": student, "running": running["id"], "worker": worker}


def all_rows(url: str) -> dict[str, list[Any]]:
    db = Database(url)
    with db.engine.connect() as connection:
        found = {
            table.name: connection.execute(select(table).order_by(*table.primary_key.columns)).all()
            for table in Base.metadata.sorted_tables
        }
    db.close()
    return found


def lines_of(url: str) -> list[str]:
    db = Database(url)
    try:
        return list(dump(db))
    finally:
        db.close()


def elsewhere(tmp_path: Path, other_url: str) -> Settings:
    return Settings.load(tmp_path / "other", database_url=other_url)


def test_every_row_comes_back_as_it_was_on_either_database(
    lived_in: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/copy.db"
    assert load(url, lines_of(settings.database_url)) > 20
    assert all_rows(url) == all_rows(settings.database_url)


def test_a_restored_installation_goes_on_and_refuses_workers_from_before(
    lived_in: dict[str, Any], settings: Settings, tmp_path: Path, database_kind: str, postgres: PostgresServer
) -> None:
    about = back_up(settings, tmp_path / "backup", print)
    assert (about["missing"], about["files"]) == (0, 2)
    # into the other kind of database than it came from
    moves_to_sqlite = database_kind == "postgresql"
    other = elsewhere(tmp_path, f"sqlite:///{tmp_path}/other/bcd.db" if moves_to_sqlite else postgres.create_database())
    told = restore(other, tmp_path / "backup", print)
    assert (told["jobs queued again"], told["missing"]) == (1, 0)
    assert other.secret_file.read_text() == settings.secret_file.read_text()
    assert other.secret_file.stat().st_mode & 0o077 == 0
    with make_client(other) as client:
        assert client.get(f"/api/v1/jobs/{lived_in['teacher']}").json()["state"] == "succeeded"
        job = client.get(f"/api/v1/jobs/{lived_in['running']}").json()
        assert (job["state"], job["step"]) == ("queued", 2)
        old: FakeWorker = lived_in["worker"]
        stale = FakeWorker(client, old.attempt_id, old.epoch)
        stale.seq = old.seq
        assert stale.post(stale.metric(3, loss=0.5)).status_code == 409
        again = FakeWorker(client, *claim(client, lived_in["running"]))
        assert [one["step"] for one in again.ticket().json()["resume"]] == [2]
        with client.app.state.db.read() as session:  # type: ignore[attr-defined]
            broken = invariants.check(session)  # (these fake workers report no loss and name no process)
            assert [str(one) for one in broken if one.invariant in ("I1", "I2", "I4", "I6")] == []
        submit(client)  # ids that the database draws go on behind those that were restored


def test_secrets_of_a_deployment_are_backed_up_and_never_overwritten(
    lived_in: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, tmp_path / "backup", print)
    mounted = tmp_path / "attempt-key"
    mounted.write_text("k" * 64)
    given = replace(elsewhere(tmp_path, f"sqlite:///{tmp_path}/other/bcd.db"), secret_file=mounted)
    restore(given, tmp_path / "backup", print)
    assert mounted.read_text() == "k" * 64
    assert given.token_file.read_text() == settings.token_file.read_text()
    back_up(given, tmp_path / "again", print)
    assert (tmp_path / "again" / "secrets" / "secret").read_text() == "k" * 64


def test_a_second_back_up_copies_only_what_is_new(lived_in: dict[str, Any], settings: Settings, tmp_path: Path) -> None:
    assert back_up(settings, tmp_path / "b", print)["copied"] == 2
    worker = lived_in["worker"]
    worker.send(worker.artifact("checkpoint", "c3", 3, b"newer weights"))
    assert back_up(settings, tmp_path / "b", print)["copied"] == 1


def rewrite(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a back-up and its hash, as a faulty program might."""
    file, about = folder / "database.jsonl.gz", folder / "backup.json"
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    file.write_bytes(gzip.compress(b"".join(change(lines))))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    about.write_text(json.dumps({**json.loads(about.read_text()), "sha256": digest}))


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "database.jsonl.gz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "database.jsonl.gz").write_bytes(content)


HARMS: dict[str, Callable[[Path], None]] = {
    "cut off": lambda folder: rewrite(folder, lambda lines: lines[:-5]),
    "a row too few": lambda folder: rewrite(folder, lambda lines: [*lines[:-2], lines[-1]]),
    "of a later version": lambda folder: rewrite(folder, lambda ls: [b'{"format":1,"revision":"9999"}\n', *ls[1:]]),
    "a bit flipped": flip_a_bit,
    "not complete": lambda folder: (folder / "backup.json").unlink(),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_back_up_is_refused_and_changes_nothing(
    lived_in: dict[str, Any], settings: Settings, tmp_path: Path, harm: str
) -> None:
    folder = tmp_path / "backup"
    back_up(settings, folder, print)
    HARMS[harm](folder)
    url = f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(BadBackup):
        restore(elsewhere(tmp_path, url), folder, print)
    if migrations.current(url) is not None:
        db = Database(url)
        with db.read() as session:
            assert session.execute(text("SELECT COUNT(*) FROM jobs")).scalar() == 0
        db.close()


def test_an_installation_with_jobs_is_not_overwritten(
    lived_in: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, tmp_path / "backup", print)
    with pytest.raises(BadBackup, match="already holds jobs"):
        restore(settings, tmp_path / "backup", print)
    db = Database(settings.database_url)
    with db.read() as session:
        assert len(session.scalars(select(Job)).all()) == 3
    db.close()


def test_a_file_that_is_damaged_in_storage_is_counted_and_not_copied(
    lived_in: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "home" / "storage" / "objects")
    about = back_up(settings, tmp_path / "backup", print)
    assert (about["missing"], about["copied"]) == (2, 0)
