"""Can this process serve right now? What load balancers and `bcd doctor` ask."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from service import migrations
from service.db import Database
from service.models import Leader
from service.settings import Settings

log = logging.getLogger("bcd.api")

DATABASE_PATIENCE = 3.0  # seconds that the database gets to answer


@dataclass(frozen=True)
class Check:
    """One question and its answer; `required`: without it this process must get no requests."""

    name: str
    ok: bool
    detail: str
    required: bool = True


def checks(settings: Settings, db: Database) -> list[Check]:
    """Database (answers, newest schema) and, for information, whether a dispatcher is at work."""
    answer = _within(DATABASE_PATIENCE, lambda: _database(db))
    return answer if answer is not None else [Check("database", False, f"no answer in {DATABASE_PATIENCE:g} s")]


def _database(db: Database) -> list[Check]:
    try:
        with db.read() as session:
            session.execute(text("SELECT 1"))
            revision = session.scalar(text("SELECT version_num FROM alembic_version"))
            leader = session.scalar(select(Leader).where(Leader.task == "dispatch"))
    except SQLAlchemyError as error:
        log.warning("the database does not answer: %s", error)
        return [Check("database", False, "does not answer")]
    known = migrations.head()
    schema = Check("schema", revision == known, f"revision {revision}, this program knows {known}")
    alive = leader is not None and leader.until > time.time()
    who = f"led by {leader.holder}" if leader is not None and alive else "none leads: jobs are accepted and wait"
    return [Check("database", True, "answers"), schema, Check("dispatcher", alive, who, required=False)]


def _within(seconds: float, ask: object) -> list[Check] | None:
    """The answer of `ask` if it comes in time. A database that hangs must not hang the probe too."""
    found: list[list[Check]] = []

    def run() -> None:
        found.append(ask())  # type: ignore[operator]

    thread = threading.Thread(target=run, name="readiness", daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None
