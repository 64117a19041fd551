"""The database schema in steps (alembic), run by the program itself: there is no alembic.ini to find.

`upgrade` is safe when several processes start at once: it holds the write lock of the database meanwhile.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from service.db import Database

_LOCK = 0x6263_6401  # any constant: the key of our advisory lock on PostgreSQL


def upgrade(url: str, to: str = "head") -> None:
    """Bring the database to revision `to`, creating it (SQLite) where there is none."""
    with _locked(url) as connection:
        command.upgrade(_config(connection), to)


def downgrade(url: str, to: str = "base") -> None:
    """Undo migrations down to `to`. Loses data; for tests and repairs."""
    with _locked(url) as connection:
        command.downgrade(_config(connection), to)


def current(url: str) -> str | None:
    """The revision of the database, None before the first upgrade."""
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        database.close()


def head() -> str | None:
    """The newest revision that this program knows."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def revisions() -> list[str]:
    """Every revision that this program knows, newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()]


def sql(dialect_url: str) -> str:
    """All migrations as SQL text for a dialect (`postgresql+psycopg://`), without a database."""
    buffer = io.StringIO()
    config = _config(None, buffer)
    config.attributes["url"] = dialect_url
    command.upgrade(config, "head", sql=True)
    return buffer.getvalue()


def _config(connection: Connection | None, output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _locked(url: str) -> Iterator[Connection]:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            if database.is_sqlite:
                # SQLite changes a table by making it anew: with foreign keys on, dropping the old one would be
                # refused. They are checked as a whole before the commit instead.
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield connection
            if database.is_sqlite:
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise RuntimeError(f"a migration left {len(broken)} rows that name missing ones: {broken[:3]}")
            connection.commit()
    finally:
        database.close()
