"""The schema in steps is the schema of the models, on both databases."""

from __future__ import annotations

import json
import threading

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

from service import migrations
from service.db import Database
from service.models import Attempt, Base, Dependency, Event, Job, Point, Series
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


def test_upgrade_downgrade_upgrade(empty_url: str) -> None:
    url = empty_url
    migrations.upgrade(url)
    assert migrations.current(url) == migrations.head() is not None
    migrations.downgrade(url)
    assert migrations.current(url) is None
    assert _tables(url) == {"alembic_version"}
    migrations.upgrade(url)
    migrations.upgrade(url)
    assert migrations.current(url) == migrations.head()


def test_what_an_older_version_stored_is_all_there_after_the_upgrade_and_after_going_back(empty_url: str) -> None:
    migrations.upgrade(empty_url, "0001")
    spec = {
        "data": {"type": "voc"},
        "student": {"backbone": "tiny", "width": 8},
        "methods": [{"type": "ld"}],
        "seed": 7,
    }
    before = Database(empty_url)
    with before.write() as session:
        for job, teacher in (("job_t", None), ("job_s", "job_t")):
            values = {"id": job, "spec": json.dumps(spec), "teacher": teacher, "key": f"key-{job}"}
            session.execute(text(
                "INSERT INTO jobs (id, name, spec, state, teacher_job_id, idempotency_key, request_hash, step, "
                "total_steps, created_at, epoch) "
                "VALUES (:id, 'n', :spec, 'succeeded', :teacher, :key, 'h', 3, 3, 1.0, 1)"
            ), values)  # fmt: skip
        session.execute(text(
            "INSERT INTO attempts (id, job_id, number, epoch, state, actor, cpus, gpus, acked_seq, lease_until, "
            "created_at) VALUES ('att_2', 'job_s', 2, 1, 'succeeded', 'a', 1, 1, 0, 0.0, 0.0)"
        ))  # fmt: skip
        session.execute(text("INSERT INTO events (time, type, job_id, actor, data) "
                             "VALUES (1.0, 'job.state', 'job_s', 'user', '{}')"))  # fmt: skip
        rows = [("loss", 1, 5.0), ("loss", 2, 3.0), ("loss", 3, 4.0), ("AP", 1, 10.0), ("AP", 2, 30.0), ("AP", 3, 20.0)]
        for key, step, value in rows:
            session.execute(
                text("INSERT INTO metrics VALUES ('job_s', :key, :step, :value, 9.0, 'att_2')"),
                {"key": key, "step": step, "value": value},
            )
        metrics = session.execute(text("SELECT * FROM metrics ORDER BY key, step")).all()
    migrations.upgrade(empty_url)
    with before.read() as session:
        job = session.get_one(Job, "job_s")
        assert (job.project_id, job.methods, job.detector) == ("default", ",ld,", "gfl-tiny-8")
        assert (job.dataset, job.seed, job.priority) == ("voc", 7, 0)
        series = {s.key: (s.count, s.last_step, s.last_value, s.best_step, s.best_value)
                  for s in session.scalars(select(Series))}  # fmt: skip
        assert series == {"AP": (3, 3, 20.0, 2, 30.0), "loss": (3, 3, 4.0, 2, 3.0)}
        assert {point.attempt for point in session.scalars(select(Point))} == {2}
        assert session.execute(select(Dependency.job_id, Dependency.needs_id)).all() == [("job_s", "job_t")]
        assert session.scalars(select(Event.project_id)).all() == ["default"]
        assert session.get_one(Attempt, "att_2").gpus == 1.0
    migrations.downgrade(empty_url, "0001")
    with before.read() as session:
        assert session.execute(text("SELECT * FROM metrics ORDER BY key, step")).all() == metrics
        assert session.execute(text("SELECT COUNT(*) FROM jobs")).scalar() == 2
    before.close()


def test_processes_that_start_at_once_migrate_once(empty_url: str) -> None:
    url, faults = empty_url, []

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
