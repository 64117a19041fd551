"""The database connection: engine, sessions and the write lock that both databases understand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

_SQLITE: dict[str, Any] = {"connect_args": {"timeout": 30}}


def _postgresql(statement_seconds: float | None) -> dict[str, Any]:
    # No machine code for statements: it takes longer to make (seconds for a curve) than ours take to run.
    options = "-c jit=off"
    if statement_seconds is not None:
        options += f" -c statement_timeout={round(1000 * statement_seconds)}"
    return {"pool_pre_ping": True, "connect_args": {"options": options}}


class Database:
    """One engine and its sessions. Never make a network call while a session is open."""

    def __init__(self, url: str, *, statement_seconds: float | None = None):
        """`statement_seconds`: PostgreSQL gives up a statement that takes longer."""
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine: Engine = create_engine(url, **(_SQLITE if self.is_sqlite else _postgresql(statement_seconds)))
        if self.is_sqlite:
            _prepare_sqlite(self.engine)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that is rolled back at the end."""
        with self._sessions() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: commits at the end, rolls back on error.

        On SQLite it takes the write lock at once (BEGIN IMMEDIATE), so that read-then-write is safe; on PostgreSQL
        lock the rows that you read with `with_for_update()`.
        """
        with self._sessions() as session:
            if self.is_sqlite:
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session
            session.commit()

    def close(self) -> None:
        self.engine.dispose()


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection, _record):  # type: ignore[no-untyped-def]
        connection.isolation_level = None  # we begin transactions ourselves
        # FULL: a job that was answered with 201 must survive a power cut; it costs one fsync for each commit.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")
