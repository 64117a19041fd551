"""The schema in steps is the schema of the models, on both databases."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from service import migrations
from service.db import Database
from service.models import Base
from service.settings import Settings


def _tables(url: str) -> set[str]:
    db = Database(url)
    tables = set(inspect(db.engine).get_table_names())
    db.close()
    return tables


def test_the_migrated_schema_is_that_of_the_models(settings: Settings) -> None:
    url = settings.database_url
    db = Database(url)
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    db.close()
    assert _tables(url) == {*Base.metadata.tables, "alembic_version"}


def test_upgrade_downgrade_upgrade(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/not/yet/there/a.db"
    migrations.upgrade(url)
    assert migrations.current(url) == migrations.head() is not None
    migrations.downgrade(url)
    assert migrations.current(url) is None
    assert _tables(url) == {"alembic_version"}
    migrations.upgrade(url)
    migrations.upgrade(url)
    assert migrations.current(url) == migrations.head()


def test_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    url, faults = f"sqlite:///{tmp_path}/a.db", []

    def run() -> None:
        try:
            migrations.upgrade(url)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert migrations.current(url) == migrations.head()


def test_the_sql_for_postgresql_creates_every_table_with_generated_ids() -> None:
    sql = migrations.sql("postgresql+psycopg://")
    for table in Base.metadata.tables:
        assert f"CREATE TABLE {table} (" in sql
    assert "id BIGSERIAL NOT NULL" in sql
    assert "AUTOINCREMENT" not in sql
