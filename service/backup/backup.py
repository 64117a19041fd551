"""A back-up folder: written, checked, restored.

database.jsonl.gz   all rows (`service.backup.rows`)
objects/ab/<hash>   stored files; a second back-up into the same folder copies only what is new
secrets/            the key of attempt tokens and the first API token (0600): keep the folder as safe as the home
backup.json         when, of what, and the hash of database.jsonl.gz; written last
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from bcd.records import StoredObject
from bcd.storage import CorruptObject, Store, open_store
from service.attempts.outcome import INFRASTRUCTURE
from service.attempts.service import LIVE
from service.backup import rows
from service.backup.rows import BadBackup
from service.db import Database
from service.jobs.states import move
from service.models import Artifact, Attempt, Job, JobState
from service.settings import Settings

Tell = Callable[[str], None]
EPOCHS_AHEAD = 1000  # more attempts than any job can have had since the back-up


def back_up(settings: Settings, to: Path, tell: Tell) -> dict[str, Any]:
    """Write a back-up of a running or stopped installation into the folder `to`. Returns what backup.json says.

    Files come after the rows: a file that a row names is there, unless a newer one took its place meanwhile, which is
    counted as missing. Raises OSError.
    """
    to.mkdir(parents=True, exist_ok=True, mode=0o700)
    to.chmod(0o700)
    (to / "backup.json").unlink(missing_ok=True)
    database = Database(settings.database_url)
    try:
        digest, count = _write_rows(database, to / "database.jsonl.gz", tell)
        stored = _stored(database)
    finally:
        database.close()
    copied, missing = _copy(open_store(settings.storage_uri), open_store(str(to)), stored, to / "tmp", tell)
    secrets = to / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    for name, file in _secrets(settings).items():
        shutil.copyfile(file, secrets / name)
        (secrets / name).chmod(0o600)
    about = {
        "time": time.time(), "rows": count, "sha256": digest, "files": len(stored), "copied": copied,
        "missing": missing,
    }  # fmt: skip
    aside = to / "backup.json.new"
    aside.write_text(json.dumps(about, indent=2), encoding="utf-8")
    os.replace(aside, to / "backup.json")
    shutil.rmtree(to / "tmp", ignore_errors=True)
    return about


def restore(settings: Settings, source: Path, tell: Tell) -> dict[str, Any]:
    """Fill an empty installation from a back-up. Its service must not run. Returns what was restored.

    Attempts that were alive when the back-up was made are closed and their jobs queued again: they go on from the
    newest checkpoint, and a worker that is still alive somewhere is refused. Raises `BadBackup` and OSError.
    """
    about = _check(source)
    settings.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    if settings.storage is not None:
        settings.storage.mkdir(parents=True, exist_ok=True)
    with gzip.open(source / "database.jsonl.gz", "rt", encoding="utf-8") as lines:
        count = rows.load(settings.database_url, lines, _now_and_then(tell))
    for name, file in _secrets(settings).items():
        kept = source / "secrets" / name
        if kept.is_file() and file.parent == settings.run:  # what a deployment mounts is not ours to change
            aside = file.with_name(f".{file.name}.new")
            aside.touch(mode=0o600)
            aside.write_bytes(kept.read_bytes())
            os.replace(aside, file)
    database = Database(settings.database_url)
    try:
        stored = _stored(database)
        target = open_store(settings.storage_uri)
        copied, missing = _copy(open_store(str(source)), target, stored, settings.home / "tmp-restore", tell)
        again = _queue_again(database)
    finally:
        database.close()
        shutil.rmtree(settings.home / "tmp-restore", ignore_errors=True)
    return {"of": about["time"], "rows": count, "files": copied, "missing": missing, "jobs queued again": again}


def _secrets(settings: Settings) -> dict[str, Path]:
    return {"secret": settings.secret_file, "api-token": settings.token_file}


def _write_rows(database: Database, file: Path, tell: Tell) -> tuple[str, int]:
    aside, line = file.with_name(file.name + ".new"), ""
    with gzip.open(aside, "wt", encoding="utf-8", compresslevel=5) as out:
        for line in rows.dump(database, _now_and_then(tell)):
            out.write(line)
    os.replace(aside, file)
    return _hash(file), int(json.loads(line)["rows"])


def _now_and_then(tell: Tell) -> Callable[[int], None]:
    """Progress over rows: a line for every 100,000."""
    told = 0

    def progress(count: int) -> None:
        nonlocal told
        if count - told >= 100_000:
            told = count
            tell(f"{count:,} rows")

    return progress


def _check(source: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((source / "backup.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BadBackup(f"{source} holds no complete back-up: backup.json is missing or damaged") from None
    try:
        right = _hash(source / "database.jsonl.gz") == about.get("sha256")
    except OSError as error:
        raise BadBackup(f"cannot read {error.filename}: {error.strerror}") from None
    if not right:
        raise BadBackup("database.jsonl.gz is not the file that the back-up wrote: its hash differs")
    return about


def _stored(database: Database) -> list[StoredObject]:
    """Every file that a row names, once."""
    query = select(Artifact.key, Artifact.sha256, Artifact.size).distinct()
    with database.read() as session:
        return [StoredObject(key=key, sha256=sha256, size=size) for key, sha256, size in session.execute(query)]


def _copy(source: Store, target: Store, stored: list[StoredObject], tmp: Path, tell: Tell) -> tuple[int, int]:
    """Copy stored files that `target` lacks; (copied, missing in the source or damaged there)."""
    copied = missing = 0
    tmp.mkdir(parents=True, exist_ok=True)
    for i, one in enumerate(stored):
        if target.size(one.key) == one.size:
            continue
        try:
            path = source.get(one, into=tmp)
        except CorruptObject as error:
            tell(f"left out: {error}")
            missing += 1
            continue
        target.put(path)
        copied += 1
        if i % 100 == 99:
            tell(f"{i + 1:,} of {len(stored):,} files")
    return copied, missing


def _queue_again(database: Database) -> int:
    count = 0
    with database.write() as session:
        for attempt in session.scalars(select(Attempt).where(Attempt.state.in_(LIVE))).all():
            job = session.get_one(Job, attempt.job_id)
            attempt.state, attempt.cause_type, attempt.ended_at = "lost", INFRASTRUCTURE, time.time()
            attempt.cause = "it was running when the back-up was made that was restored"
            # Attempts that began after the back-up are unknown here; none of their epochs may come again.
            job.epoch += EPOCHS_AHEAD
            session.flush()
            to = {
                JobState.CANCELLING.value: JobState.CANCELLED,
                JobState.PAUSING.value: JobState.PAUSED,
            }.get(job.state, JobState.QUEUED)
            move(session, job, to, actor="dispatcher", cause=attempt.cause, attempt_id=attempt.id)
            count += 1
    return count


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
