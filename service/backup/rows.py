"""A database as lines of JSON and back, the same for SQLite and PostgreSQL (so it also moves from one to the other).

First line: {"format", "revision"}. Then for each table {"table": name, "columns": [...]} and its rows as plain lists;
at the end {"rows": count}, so that a file that was cut off is found. All of it is read in one transaction: one moment
in time, also while jobs run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, MetaData, Table, func, insert, select, text

from service import migrations
from service.db import Database
from service.models import Base

FORMAT = 1
_ROWS = 1000  # rows read or written together


class BadBackup(Exception):
    """A back-up that cannot be restored here; the message says why."""


def dump(db: Database, tell: Callable[[int], None] = lambda rows: None) -> Iterator[str]:
    """The lines of a back-up. `tell` gets the number of rows so far."""
    with db.engine.connect() as connection:
        if db.is_sqlite:
            connection.exec_driver_sql("BEGIN")  # a snapshot, from the first read on
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        yield _line({"format": FORMAT, "revision": revision})
        count = 0
        for table in Base.metadata.sorted_tables:
            yield _line({"table": table.name, "columns": [column.name for column in table.columns]})
            rows = connection.execution_options(yield_per=_ROWS, stream_results=True).execute(
                select(table).order_by(*table.primary_key.columns)
            )
            for row in rows:
                yield _line(list(row))
                count += 1
                if count % _ROWS == 0:
                    tell(count)
        yield _line({"rows": count})
        tell(count)


def load(url: str, lines: Iterable[str], tell: Callable[[int], None] = lambda rows: None) -> int:
    """Fill the database at `url`, which must hold no jobs, in one transaction. Returns the number of rows.

    The schema is made at the back-up's revision first and brought to the newest one afterwards, so that a back-up of
    an older version can be restored. Raises `BadBackup`; then nothing was changed.
    """
    source = iter(lines)
    head = _parsed(next(source, ""))
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise BadBackup("this is no back-up of bcd, or one of a newer version")
    revision = str(head["revision"])
    if revision not in migrations.revisions():
        raise BadBackup(f"the back-up is of schema {revision}, which this version does not know: use a newer bcd")
    _refuse_used(url)
    migrations.upgrade(url, revision)
    db = Database(url)
    try:
        with db.engine.connect() as connection:
            if db.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            count = _fill(connection, source, tell)
            connection.commit()
    finally:
        db.close()
    migrations.upgrade(url)
    return count


def _fill(connection: Connection, lines: Iterator[str], tell: Callable[[int], None]) -> int:
    # as the database has it now: the models may be newer than the back-up
    metadata = MetaData()
    metadata.reflect(connection)
    for table in reversed(metadata.sorted_tables):
        if table.name != "alembic_version":
            connection.execute(table.delete())  # what migrations put in, such as the project `default`
    table, columns, waiting, count = None, list[str](), list[dict[str, Any]](), 0
    self_referring: list[tuple[Table, dict[str, Any]]] = []
    for line in lines:
        value = _parsed(line)
        if isinstance(value, list):
            if table is None or len(value) != len(columns):
                raise BadBackup("the back-up is damaged: a row does not fit its table")
            waiting.append(dict(zip(columns, value, strict=True)))
            count += 1
        if waiting and (isinstance(value, dict) or len(waiting) >= _ROWS):
            assert table is not None
            _insert(connection, table, waiting, self_referring)
            waiting = []
            tell(count)
        if isinstance(value, dict) and "table" in value:
            if value["table"] not in metadata.tables:
                raise BadBackup(f"the back-up has a table {value['table']!r}, which its schema does not know")
            table, columns = metadata.tables[value["table"]], list(value["columns"])
        elif isinstance(value, dict):
            if value.get("rows") != count:
                raise BadBackup(f"the back-up is damaged: it says {value.get('rows')} rows and has {count}")
            _refer(connection, self_referring)
            _advance_sequences(connection, metadata)
            return count
    raise BadBackup("the back-up is cut off: its last line is missing")


def _insert(
    connection: Connection, table: Table, rows: list[dict[str, Any]], later: list[tuple[Table, dict[str, Any]]]
) -> None:
    """Insert rows; columns that refer to the same table are filled once all its rows are there."""
    own = [fk.parent.name for fk in table.foreign_keys if fk.column.table is table]
    if own:
        key = [column.name for column in table.primary_key.columns]
        for row in rows:
            refers = {name: row[name] for name in own if row.get(name) is not None}
            if refers:
                later.append((table, {**{name: row[name] for name in key}, **refers}))
                row.update(dict.fromkeys(refers))
    connection.execute(insert(table), rows)


def _refer(connection: Connection, later: list[tuple[Table, dict[str, Any]]]) -> None:
    for table, values in later:
        key = {column.name for column in table.primary_key.columns}
        statement = table.update().where(*(table.c[name] == values[name] for name in key))
        connection.execute(statement.values({name: value for name, value in values.items() if name not in key}))


def _advance_sequences(connection: Connection, metadata: MetaData) -> None:
    """PostgreSQL draws ids from sequences, which know nothing of ids that were inserted."""
    if connection.dialect.name != "postgresql":
        return
    for table in metadata.tables.values():
        sequence = connection.execute(
            text("SELECT pg_get_serial_sequence(:table, 'id')") if "id" in table.c else text("SELECT NULL"),
            {"table": table.name} if "id" in table.c else {},
        ).scalar()
        if sequence is not None:
            most = connection.execute(select(func.max(table.c.id))).scalar()
            if most is not None:
                connection.execute(text("SELECT setval(:sequence, :most)"), {"sequence": sequence, "most": most})


def _refuse_used(url: str) -> None:
    if migrations.current(url) is None:
        return
    db = Database(url)
    try:
        with db.engine.connect() as connection:
            if connection.execute(text("SELECT COUNT(*) FROM jobs")).scalar_one():
                raise BadBackup("the database already holds jobs: restore into an empty one")
    finally:
        db.close()
    migrations.downgrade(url)


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise BadBackup("the back-up is damaged: a line is not JSON") from None
