"""A dispatcher's rounds: it leads or stands by, and outlives a cluster and a database that are away."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from service import migrations
from service.dispatch.loop import Dispatcher
from tests.helpers.postgres import PostgresServer

from .conftest import LEASE, RUNNING, World


class Beside:
    """What runs beside the rounds of a leader."""

    def __init__(self) -> None:
        self.runs = False

    def start(self) -> None:
        self.runs = True

    def stop(self, timeout: float) -> None:
        self.runs = False


class One:
    """A dispatcher of the world, one of several."""

    def __init__(self, world: World, name: str):
        self.lead, self.beside = world.candidate(name), []
        self.loop = Dispatcher(self.lead, lambda: (world.new_reconciler(self.lead), [self._new()]))

    def _new(self) -> Beside:
        self.beside.append(Beside())
        return self.beside[-1]

    @property
    def runs_beside(self) -> list[bool]:
        return [one.runs for one in self.beside]


@pytest.fixture
def pair(world):
    world.lead.resign()
    return One(world, "a"), One(world, "b")


def test_only_the_leader_acts_and_runs_what_goes_beside_it(world, pair):
    a, b = pair
    job = world.submit()
    assert a.loop.round()
    assert b.loop.round()
    assert (a.loop.leads, b.loop.leads) == (True, False)
    assert (a.runs_beside, b.runs_beside) == ([True], [])
    assert len(world.attempts(job)) == 1


def test_the_other_follows_one_that_ends_at_once(world, pair):
    a, b = pair
    a.loop.round()
    a.loop.close()
    assert a.runs_beside == [False]
    b.loop.round()
    assert b.runs_beside == [True]


def test_a_leader_that_was_stopped_stands_by_when_it_wakes_up_and_can_follow_again(world, pair):
    a, b = pair
    a.loop.round()
    world.now += world.settings.leader_seconds + 1
    b.loop.round()
    assert b.loop.leads
    a.loop.round()
    assert not a.loop.leads
    assert a.runs_beside == [False]
    b.loop.close()
    a.loop.round()
    assert a.runs_beside == [False, True]
    assert a.loop.leads


def test_a_cluster_that_is_away_is_told_once_and_ends_no_term(world, pair, caplog):
    a, _ = pair
    world.submit()
    a.loop.round()
    world.backend.away = True
    world.submit(seed=1)
    with caplog.at_level(logging.INFO, "bcd.dispatch"):
        assert [a.loop.round() for _ in range(3)] == [False] * 3
        world.backend.away = False
        assert a.loop.round()
    assert [r.message for r in caplog.records if "away" in r.message or "answer" in r.message] == [
        "the cluster does not answer"
    ]
    assert a.runs_beside == [True]


def test_an_unforeseen_fault_is_logged_and_the_next_round_follows(world, pair, monkeypatch, caplog):
    a, _ = pair
    a.loop.round()
    monkeypatch.setattr(world.backend, "strays", lambda known: 1 / 0)
    assert not a.loop.round()
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert a.loop.round()


@pytest.fixture
def own_server():
    with PostgresServer() as server:
        yield server


def test_a_database_that_is_killed_ends_no_dispatcher_and_no_attempt(tmp_path: Path, own_server, caplog):
    """It is away for longer than a lease, in which no worker can renew its own."""
    url = own_server.create_database()
    migrations.upgrade(url)
    world = World(tmp_path, url)
    world.lead.resign()
    one = One(world, "a")
    job = world.submit()
    one.loop.round()
    attempt = world.newest(job)
    world.report(attempt, RUNNING)
    own_server.kill()
    with caplog.at_level(logging.INFO, "bcd.dispatch"):
        for _ in range(5):
            world.now += LEASE
            assert not one.loop.round()
        assert not one.loop.leads
        own_server.restart()
        world.backend.workers[attempt.actor] = "unknown"
        for _ in range(4):
            one.loop.round()
            world.now += LEASE / 6
    assert [r.message.partition(":")[0] for r in caplog.records if "database" in r.message] == [
        "the database does not do its part"
    ]
    assert one.loop.leads
    assert world.backend.killed == []
    assert world.job(job).state == "running"
    world.db.close()
