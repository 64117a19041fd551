"""A driver stands behind every sweep that searches: one at a time, replaced when it is lost, never for nothing."""

from __future__ import annotations

import time

import pytest

from bcd.sweep.wire import NewTrial
from service.dispatch.housekeeping import STRAY_PATIENCE
from service.dispatch.sweeps import MOST_FRUITLESS
from service.models import Sweep, SweepState
from service.sweeps import driver, submit, verbs
from tests.helpers.api import ROOT, tiny_sweep
from tests.unit.dispatch.conftest import RUNNING, SUCCEEDED


@pytest.fixture
def sweep(world) -> str:
    return _submit(world)


def _submit(world, **changes) -> str:
    return submit.submit(world.db, ROOT, tiny_sweep(**changes), submit.Options(), key=None)[0]


def _row(world, sweep_id: str) -> Sweep:
    with world.db.read() as session:
        return session.get(Sweep, sweep_id)


def _add(world, sweep_id: str, number: int):
    params = {"schedule.optimizer.lr": 0.01 * number, "student.width": 4}
    epoch = _row(world, sweep_id).epoch
    return world.change(driver.add, world.settings, sweep_id, epoch, NewTrial(number=number, params=params))


def _finish(world, job_id: str, ap: float = 30.0) -> None:
    evaluation = {"kind": "evaluation", "step": 4, "protocol": "p", "results": {"AP": ap}}
    world.report(world.newest(job_id), RUNNING, evaluation, SUCCEEDED)


def test_a_new_sweep_gets_one_driver(world, sweep):
    world.tick(times=3)
    [launch] = world.backend.drivers
    assert (launch.sweep_id, launch.epoch) == (sweep, 1)
    assert _row(world, sweep).actor == launch.actor


def test_a_driver_that_died_is_replaced_under_a_new_epoch(world, sweep):
    world.tick()
    first = world.backend.drivers[0]
    world.backend.workers[first.actor] = "dead"
    world.tick()  # once may be a mistake
    assert len(world.backend.drivers) == 1
    world.tick(times=2)
    second = world.backend.drivers[1]
    assert (second.epoch, second.actor != first.actor) == (2, True)
    world.tick(times=3)
    assert len(world.backend.drivers) == 2


def test_a_new_dispatcher_adopts_the_driver_that_is_there(world, sweep):
    world.tick()
    world.restart()
    world.tick(times=3)
    assert len(world.backend.drivers) == 1
    assert _row(world, sweep).epoch == 1


def test_a_driver_that_was_recorded_and_never_asked_for_is_asked_for(world, sweep):
    world.tick()
    [launch] = world.backend.drivers
    world.backend.workers.clear()  # as if its dispatcher had died in between
    world.backend.drivers.clear()
    world.restart()
    world.tick()
    assert world.backend.drivers == [launch]


def test_an_unreachable_driver_keeps_its_sweep_until_its_lease_has_run_out(world, sweep):
    world.tick(times=2)
    [launch] = world.backend.drivers
    world.backend.workers[launch.actor] = "unknown"
    world.tick(times=3)
    assert len(world.backend.drivers) == 1
    world.wait(max(world.settings.start_seconds, world.settings.lease_seconds) + 10)
    assert launch.actor in world.backend.killed
    assert len(world.backend.drivers) == 2


def test_drivers_that_do_nothing_are_not_started_for_ever(world, sweep):
    for _ in range(3 * MOST_FRUITLESS):
        world.tick()
        for actor in list(world.backend.workers):
            world.backend.workers[actor] = "dead"
    row = _row(world, sweep)
    assert row.state == SweepState.FAILED
    assert f"{MOST_FRUITLESS} drivers in a row did nothing" in row.cause
    assert len(world.backend.drivers) == MOST_FRUITLESS


def test_a_driver_that_adds_trials_has_not_done_nothing(world):
    sweep = _submit(world, budget={"trials": 20})
    for number in range(1, 8):
        world.tick(times=3)
        _add(world, sweep, number)
        for actor in list(world.backend.workers):
            if actor.startswith("driver"):
                world.backend.workers[actor] = "dead"
    world.tick(times=3)
    assert _row(world, sweep).state == SweepState.SEARCHING


def test_a_driver_of_a_paused_sweep_is_a_stray_and_another_one_goes_on(world, sweep):
    world.tick(times=2)
    [first] = world.backend.drivers
    world.change(verbs.pause, ROOT, sweep)
    world.tick()
    world.tick(after=STRAY_PATIENCE + 1)  # it exits by itself, or is ended
    assert first.actor in world.backend.killed
    world.change(verbs.resume, ROOT, sweep)
    world.tick(times=3)
    assert _row(world, sweep).epoch == 2


def test_trials_are_claimed_like_any_job_and_the_last_repeat_finishes_the_sweep(world):
    sweep = _submit(world, budget={"trials": 1}, promote={"top": 1, "seeds": 2, "default": False})
    world.tick()
    job = _add(world, sweep, 1).job_id
    world.tick()
    _finish(world, job)
    from bcd.sweep.wire import EndSearch

    world.change(driver.end, world.settings, sweep, _row(world, sweep).epoch, EndSearch())
    assert _row(world, sweep).state == SweepState.REPEATING
    world.tick()
    assert _row(world, sweep).state == SweepState.REPEATING
    for seed in (1, 2):
        _finish(world, job.removesuffix("_0") + f"_{seed}")
    world.tick()
    row = _row(world, sweep)
    assert row.state == SweepState.SUCCEEDED
    assert row.ended_at is not None
    assert row.ended_at <= time.time()


def test_a_cluster_that_is_away_costs_a_sweep_nothing(world, sweep):
    from service.dispatch.backend import BackendAway

    world.backend.away = True
    for _ in range(3):
        with pytest.raises(BackendAway):
            world.tick()
    assert _row(world, sweep).state == SweepState.SEARCHING
    world.backend.away = False
    world.tick(times=2)
    assert len(world.backend.drivers) == 1
