"""Of several dispatchers one leads, another follows it soon, and none writes after its time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from service.db import Database
from service.dispatch.leadership import Leadership, NotLeading, is_gone, this_process
from service.models import Leader, Project


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(database_url):
    db = Database(database_url)
    yield db
    db.close()


@pytest.fixture
def candidate(db, clock):
    return lambda name: Leadership(db, "dispatch", seconds=10.0, clock=clock, holder=name)


def write_as(lead, name):
    with lead.writing() as session:
        session.add(Project(id=name, created_at=0.0))


def projects(db):
    with db.read() as session:
        return set(session.scalars(select(Project.id))) - {"default"}


def test_one_leads_while_it_renews_and_the_other_stands_by(candidate, clock):
    a, b = candidate("a"), candidate("b")
    assert a.seek()
    for _ in range(10):
        clock.now += 4
        assert (a.seek(), b.seek()) == (True, False)
    assert (a.is_leader(), b.is_leader()) == (True, False)


def test_the_other_takes_over_once_the_time_is_over_and_with_the_next_epoch(candidate, clock):
    a, b = candidate("a"), candidate("b")
    assert a.seek()
    clock.now += 9.9
    assert not b.seek()
    clock.now += 0.1
    assert b.seek()
    assert (a.epoch, b.epoch) == (1, 2)
    assert not a.seek()


def test_who_resigns_is_followed_at_once(candidate):
    a, b = candidate("a"), candidate("b")
    assert a.seek()
    a.resign()
    assert not a.is_leader()
    assert b.seek()


def test_who_was_replaced_resigns_nothing(candidate, clock):
    a, b = candidate("a"), candidate("b")
    assert a.seek()
    clock.now += 11
    assert b.seek()
    a.resign()
    assert b.is_leader()
    assert not a.seek()


def test_a_leader_that_renewed_too_late_leads_on_where_nobody_followed(candidate, clock):
    a = candidate("a")
    assert a.seek()
    clock.now += 60
    assert not a.is_leader()
    with pytest.raises(NotLeading):
        write_as(a, "late")
    assert a.seek()
    assert a.epoch == 1


def test_who_does_not_lead_writes_nothing(candidate, clock, db):
    a, b = candidate("a"), candidate("b")
    with pytest.raises(NotLeading):
        write_as(a, "early")
    assert a.seek()
    write_as(a, "first")
    clock.now += 11
    assert b.seek()
    with pytest.raises(NotLeading):
        write_as(a, "late")
    with pytest.raises(NotLeading):
        a.check()
    write_as(b, "second")
    assert projects(db) == {"first", "second"}


def test_a_leader_that_believes_it_has_time_is_stopped_by_the_epoch(db, clock):
    """It was stopped right after it looked at the clock, and wakes up much later."""
    stopped = Leadership(db, "dispatch", seconds=10.0, clock=lambda: 1000.0, holder="stopped")
    other = Leadership(db, "dispatch", seconds=10.0, clock=clock, holder="other")
    assert stopped.seek()
    clock.now += 11
    assert other.seek()
    assert stopped.is_leader()
    with pytest.raises(NotLeading):
        write_as(stopped, "late")
    assert not stopped.is_leader()
    assert projects(db) == set()


def test_tasks_have_leaders_of_their_own(db, clock):
    a = Leadership(db, "dispatch", seconds=10.0, clock=clock, holder="a")
    b = Leadership(db, "mirror", seconds=10.0, clock=clock, holder="b")
    assert a.seek()
    assert b.seek()


def test_of_many_that_seek_at_once_one_leads(database_url):
    leads = []
    start = threading.Barrier(6)

    def seek(name: str) -> None:
        db = Database(database_url)
        start.wait()
        leads.append(Leadership(db, "dispatch", seconds=60.0, holder=name).seek())
        db.close()

    threads = [threading.Thread(target=seek, args=(str(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(leads) == [False] * 5 + [True]


def test_a_process_of_this_machine_that_is_gone_is_followed_at_once(db, clock, candidate):
    command = "from service.dispatch.leadership import this_process; print(this_process())"
    holder = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.strip()
    assert Leadership(db, "dispatch", seconds=10.0, clock=clock, holder=holder).seek()
    assert candidate("b").seek()


def test_only_what_is_surely_gone_counts_as_gone():
    me = this_process()
    host, namespace, pid, born = me.split("/")
    assert not is_gone(me)
    assert is_gone(f"{host}/{namespace}/{pid}/{float(born) - 100:.2f}")  # its number was given to us
    assert not is_gone(f"elsewhere/{namespace}/{pid}/1.00")
    assert not is_gone(f"{host}/another/{pid}/1.00")
    assert not is_gone("-")


def test_a_leader_that_is_stopped_within_a_transaction_is_followed_and_its_write_is_lost(migrated_postgres, postgres):
    """PostgreSQL ends a session that keeps locks and says nothing. (SQLite has no such thing: all wait for it.)"""
    url = postgres.create_database(migrated_postgres)
    first, second = Database(url), Database(url)
    stopped = Leadership(first, "dispatch", seconds=1.0, holder="stopped")
    other = Leadership(second, "dispatch", seconds=1.0, holder="other")
    assert stopped.seek()

    def write_and_stop():
        with stopped.writing() as session:
            session.add(Project(id="late", created_at=0.0))
            session.flush()
            deadline = time.monotonic() + 60
            while not other.seek():
                assert time.monotonic() < deadline
                time.sleep(0.05)

    with pytest.raises(DBAPIError):
        write_and_stop()
    assert other.is_leader()
    assert projects(second) == set()
    with second.read() as session:
        assert session.get(Leader, "dispatch").holder == "other"
    first.close()
    second.close()
    postgres.drop(url)
