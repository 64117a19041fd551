"""The dispatcher starts every job once, loses none, and never touches a healthy one."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from sqlalchemy import select

from service.attempts.service import ticket
from service.dispatch.backend import BackendAway
from service.dispatch.fake_backend import node
from service.dispatch.housekeeping import STRAY_PATIENCE
from service.dispatch.leadership import NotLeading
from service.dispatch.reconciler import ALIVE_LEASES
from service.errors import Problem
from service.jobs import service as jobs
from service.models import TERMINAL, Attempt, Event, Job, Point
from tests.helpers.api import ROOT

from .conftest import LEASE, RUNNING, SUCCEEDED, checkpoint, numbered


def test_a_queued_job_is_started_once_with_a_fresh_epoch_and_lease(world):
    job = world.submit()
    world.tick(5)
    (attempt,) = world.attempts(job)
    assert [launch.attempt_id for launch in world.backend.launches] == [attempt.id]
    assert (attempt.number, attempt.epoch, attempt.state) == (1, 1, "starting")
    assert attempt.lease_until > world.now
    assert world.job(job).state == "starting"


def test_a_job_that_its_worker_finishes_stays_finished_when_the_worker_exits(world):
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    world.report(attempt, RUNNING, {"kind": "metric", "step": 1, "values": {"loss": 1.0}}, SUCCEEDED)
    world.backend.workers[attempt.actor] = "dead"
    world.tick(5)
    assert world.job(job).state == "succeeded"
    assert len(world.attempts(job)) == 1


def test_oldest_jobs_start_first_and_no_more_than_fit(world):
    first, second, third = (world.submit(seed=seed) for seed in range(3))
    world.tick(3)
    assert [world.job(job).state for job in (first, second, third)] == ["starting", "starting", "queued"]
    world.report(world.newest(first), RUNNING, SUCCEEDED)
    world.tick()
    assert world.job(third).state == "starting"


def test_small_jobs_do_not_starve_a_large_one(world):
    small = world.submit()
    world.tick()
    large, later = world.submit(resources={"cpus": 2}), world.submit(seed=1)
    world.tick()
    assert (world.job(large).state, world.job(later).state) == ("queued", "queued")
    world.report(world.newest(small), RUNNING, SUCCEEDED)
    world.tick()
    assert (world.job(large).state, world.job(later).state) == ("starting", "queued")


def test_a_job_waiting_for_a_gpu_does_not_hold_up_jobs_that_need_none(world):
    world.backend.sizes = [node("head", cpus=4, gpus=1)]
    world.submit(resources={"gpus": 1})
    second, plain = world.submit(resources={"gpus": 1}, seed=1), world.submit(seed=2)
    world.tick()
    assert (world.job(second).state, world.job(plain).state) == ("queued", "starting")


def test_processes_that_train_together_count_as_a_cpu_each(world):
    pair, other = world.submit(resources={"processes": 2}), world.submit(seed=1)
    world.tick()
    assert (world.job(pair).state, world.job(other).state) == ("starting", "queued")  # the cluster has 2 CPUs
    world.report(world.newest(pair), RUNNING, SUCCEEDED)
    world.tick()
    assert world.job(other).state == "starting"


def test_more_gpus_than_there_are_is_refused_with_their_number(world):
    world.backend.sizes = [node("head", cpus=8, gpus=2)]
    job = world.submit(resources={"gpus": 4})
    world.tick()
    assert world.job(job).state == "failed"
    assert "there are 2: set resources.gpus to 2" in world.job(job).cause


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"cpus": 9}, "lower resources.cpus"),
        ({"processes": 16}, "resources.processes"),
        ({"gpus": 1}, "there is none: set resources.gpus to 0"),
    ],
)
def test_a_job_that_can_never_fit_fails_with_what_to_change(world, asked, hint):
    job = world.submit(resources=asked)
    world.tick()
    assert world.job(job).state == "failed"
    assert hint in world.job(job).cause


def test_a_dispatcher_that_died_after_the_claim_is_followed_by_one_that_launches(world):
    job = world.submit()
    world.backend.away, sizes = True, world.backend.sizes
    world.backend.nodes = lambda: sizes
    with pytest.raises(BackendAway):
        world.tick()
    assert world.job(job).state == "starting"
    world.restart()
    world.backend.away = False
    world.tick(3)
    assert len(world.backend.started) == 1
    assert len(world.attempts(job)) == 1


def test_launching_again_after_a_restart_does_not_start_a_second_worker(world):
    world.submit()
    world.tick()
    world.restart()
    world.tick(3)
    assert len(world.backend.launches) == 2
    assert len(world.backend.started) == 1


def test_a_dispatcher_that_starts_again_leaves_running_attempts_alone(world):
    job = world.submit()
    world.tick()
    world.report(world.newest(job), RUNNING)
    world.restart()
    world.tick(5, after=3 * LEASE)
    assert world.job(job).state == "running"
    assert world.backend.killed == []


def test_a_worker_that_died_is_replaced_by_a_new_attempt_with_the_next_epoch(world):
    job = world.submit()
    world.tick()
    first = world.newest(job)
    world.report(first, RUNNING, checkpoint(5))
    world.backend.workers[first.actor] = "dead"
    world.tick(3)
    lost, second = world.attempts(job)
    assert (lost.state, second.state, second.number, second.epoch) == ("lost", "starting", 2, 2)
    assert second.actor != lost.actor
    with pytest.raises(Problem, match="has ended"):
        world.report(first, RUNNING)


def test_one_report_of_death_is_not_enough_because_the_last_record_may_be_under_way(world):
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    world.report(attempt, RUNNING)
    world.backend.workers[attempt.actor] = "dead"
    world.tick()
    world.report(attempt, SUCCEEDED)
    world.tick(3)
    assert world.job(job).state == "succeeded"
    assert len(world.attempts(job)) == 1


def test_unknown_means_hands_off_until_the_lease_is_over(world):
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    world.report(attempt, RUNNING)
    world.backend.workers[attempt.actor] = "unknown"
    world.wait(LEASE - 1)
    assert world.job(job).state == "running"
    assert world.backend.killed == []
    world.tick(3, after=2)
    assert world.backend.killed == [attempt.actor]
    assert [a.state for a in world.attempts(job)] == ["lost", "starting"]


def test_a_worker_that_answers_keeps_its_attempt_while_the_service_cannot_be_reached(world):
    job = world.submit()
    world.tick()
    world.report(world.newest(job), RUNNING)
    world.wait(5 * LEASE, every=9)
    assert [a.state for a in world.attempts(job)] == ["running"]
    world.wait(ALIVE_LEASES * LEASE, every=9)
    assert [a.state for a in world.attempts(job)] == ["lost", "starting"]


def test_a_worker_that_was_heard_of_in_the_last_moment_is_not_ended(world, monkeypatch):
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    world.report(attempt, RUNNING)
    world.backend.workers[attempt.actor] = "unknown"
    ask = world.backend.liveness

    def heartbeat_meanwhile(actor):
        world.report(attempt)
        return ask(actor)

    monkeypatch.setattr(world.backend, "liveness", heartbeat_meanwhile)
    world.tick(after=LEASE + 1)
    assert world.backend.killed == []
    assert world.job(job).state == "running"


def write_outbox(world, attempt, records):
    path = world.settings.work / attempt.id / "outbox.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(record.model_dump_json() + "\n" for record in records) + '{"kind":"met')


def test_what_a_dead_worker_wrote_but_could_not_send_is_taken_over(world):
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    world.report(attempt, RUNNING)
    said = [RUNNING, {"kind": "metric", "step": 7, "values": {"loss": 0.5}}, checkpoint(7), SUCCEEDED]
    write_outbox(world, attempt, numbered(said, 1))
    world.backend.workers[attempt.actor] = "dead"
    world.tick(3)
    assert world.job(job).state == "succeeded"
    assert [a.state for a in world.attempts(job)] == ["succeeded"]
    with world.db.read() as session:
        assert session.scalars(select(Point.step)).all() == [7]


def test_a_half_told_story_is_taken_over_before_the_next_attempt_starts(world):
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    write_outbox(world, attempt, numbered([RUNNING, checkpoint(5)], 1))
    world.backend.workers[attempt.actor] = "dead"
    world.tick(3)
    assert [a.state for a in world.attempts(job)] == ["lost", "starting"]
    with world.db.read() as session:
        assert [c.step for c in ticket(session, world.settings, world.newest(job).id).resume] == [5]


def test_a_job_that_never_gets_anywhere_is_given_up(world):
    job = world.submit()
    for _ in range(world.settings.max_attempts):
        world.tick()
        world.backend.workers[world.newest(job).actor] = "dead"
        world.tick(2)
    world.tick()
    assert world.job(job).state == "failed"
    assert "3 attempts in a row got no further" in world.job(job).cause
    assert len(world.attempts(job)) == world.settings.max_attempts


def test_a_job_that_moves_forward_may_be_interrupted_more_often_than_that(world):
    job = world.submit()
    for number in range(3 * world.settings.max_attempts):
        world.tick()
        world.report(world.newest(job), RUNNING, checkpoint(number + 1, content="abcdef"[number % 6]))
        world.backend.workers[world.newest(job).actor] = "dead"
        world.tick(2)
    world.tick()
    world.report(world.newest(job), RUNNING, SUCCEEDED)
    assert world.job(job).state == "succeeded"


def test_a_cancelled_job_whose_worker_is_gone_ends_at_once(world):
    job = world.submit()
    world.tick()
    world.report(world.newest(job), RUNNING)
    world.change(jobs.cancel, ROOT, job)
    world.backend.workers[world.newest(job).actor] = "dead"
    world.tick(3)
    assert world.job(job).state == "cancelled"
    assert [a.state for a in world.attempts(job)] == ["cancelled"]


def test_a_cancelled_job_is_ended_by_force_when_its_worker_does_not_stop(world):
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    world.report(attempt, RUNNING)
    world.change(jobs.cancel, ROOT, job)
    world.tick(3)
    assert world.report(attempt).cancel
    assert world.job(job).state == "cancelling"
    world.tick(2, after=world.settings.stop_seconds + 1)
    assert world.backend.killed == [attempt.actor]
    assert world.job(job).state == "cancelled"


def test_a_job_that_is_cancelled_between_claim_and_launch_never_starts(world):
    job = world.submit()
    world.backend.away, sizes = True, world.backend.sizes
    world.backend.nodes = lambda: sizes
    with pytest.raises(BackendAway):
        world.tick()
    world.change(jobs.cancel, ROOT, job)
    world.backend.away = False
    world.restart()
    world.tick(3)
    assert world.job(job).state == "cancelled"
    assert world.backend.started == []


def test_nothing_is_lost_and_nothing_is_claimed_while_the_cluster_is_away(world):
    running, waiting = world.submit(resources={"cpus": 2}), world.submit(seed=1)
    world.tick()
    world.report(world.newest(running), RUNNING)
    world.backend.away = True
    for _ in range(3):
        with pytest.raises(BackendAway):
            world.tick(after=1)
    assert (world.job(running).state, world.job(waiting).state) == ("running", "queued")


def test_a_running_job_without_any_attempt_is_queued_again(world):
    job = world.submit()

    def orphan(session):
        session.get(Job, job).state = "running"

    world.change(orphan)
    world.tick()
    assert world.job(job).state == "starting"


def test_a_worker_that_outlives_its_attempt_is_ended_after_a_while(world):
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    world.report(attempt, RUNNING, SUCCEEDED)
    world.tick()
    assert world.backend.killed == []
    world.tick(after=STRAY_PATIENCE + 1)
    assert world.backend.killed == [attempt.actor]


def test_spares_are_used_first_and_replaced(world):
    world.reconciler._spares = 1
    world.tick()
    (spare,) = world.backend.spares
    job = world.submit()
    world.tick()
    assert world.newest(job).actor == spare
    assert world.backend.spares != [spare]


def test_work_folders_of_ended_attempts_are_removed_after_an_hour(world):
    job = world.submit()
    world.tick()
    live = world.settings.work / world.newest(job).id
    old, recent = world.settings.work / "att_old", world.settings.work / "att_recent"
    for folder in (live, old, recent):
        folder.mkdir(parents=True)
    for folder in (live, old):
        os.utime(folder, (world.now - 7200, world.now - 7200))
    world.tick(after=61)
    assert [folder.exists() for folder in (old, recent, live)] == [False, True, True]


def test_half_written_files_of_dead_workers_are_removed_after_an_hour(world):
    folder = world.settings.storage / "tmp"
    folder.mkdir(parents=True)
    old, recent = folder / "old", folder / "recent"
    for file in (old, recent):
        file.write_bytes(b"half")
    os.utime(old, (world.now - 7200, world.now - 7200))
    world.tick()
    world.reconciler._house._sweeper.join()
    assert [file.exists() for file in (old, recent)] == [False, True]


def test_an_attempt_that_cannot_be_looked_after_holds_up_no_other(world, monkeypatch):
    stuck = world.submit()
    world.tick()
    first, ask = world.newest(stuck), world.backend.liveness

    def fail(actor):
        if actor == first.actor:
            raise RuntimeError("what is this?")
        return ask(actor)

    monkeypatch.setattr(world.backend, "liveness", fail)
    other = world.submit(seed=1)
    world.tick()
    assert world.job(other).state == "starting"


def test_a_worker_that_never_fetched_its_ticket_is_asked_for_once_more_and_then_given_up(world):
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    world.backend.workers[attempt.actor] = "unknown"  # say, Ray has not placed it
    patience = world.settings.start_seconds
    world.wait(patience - 8, every=9)
    assert len(world.backend.launches) == 1
    world.wait(16)
    assert [launch.attempt_id for launch in world.backend.launches] == [attempt.id] * 2
    assert len(world.backend.started) == 1
    world.wait(patience - 16, every=9)
    assert world.newest(job).id == attempt.id
    world.wait(16)
    assert [a.state for a in world.attempts(job)] == ["lost", "starting"]
    assert world.attempts(job)[0].cause == "its worker did not start in 240 s"


def test_the_second_chance_of_a_worker_is_not_counted_anew_by_the_next_dispatcher(world):
    job = world.submit()
    world.tick()
    world.backend.workers[world.newest(job).actor] = "unknown"
    world.wait(world.settings.start_seconds + 9, every=9)
    world.restart()
    world.wait(world.settings.start_seconds + LEASE + 9, every=9)
    assert [a.state for a in world.attempts(job)] == ["lost", "starting"]


def test_no_worker_is_blamed_while_the_service_itself_does_not_answer(world):
    starting, running = world.submit(), world.submit(seed=1)
    world.tick()
    world.report(world.newest(running), RUNNING)
    world.service_up = False
    world.wait((ALIVE_LEASES + 2) * LEASE, every=9)
    assert [a.state for job in (starting, running) for a in world.attempts(job)] == ["starting", "running"]
    world.service_up = True
    world.wait(LEASE - 9)  # and then each has a lease to come back
    assert [a.state for job in (starting, running) for a in world.attempts(job)] == ["starting", "running"]


def test_a_job_is_stopped_in_time_though_the_dispatcher_is_started_again_and_again(world):
    job = world.submit()
    world.tick()
    world.report(world.newest(job), RUNNING)
    world.change(jobs.cancel, ROOT, job)
    for _ in range(6):
        world.restart()
        world.wait(10)
    assert world.job(job).state == "cancelled"
    assert world.backend.killed == [world.newest(job).actor]


# ------------------------------------------------------------------------------------- several dispatchers


def take_over(world):
    """Another dispatcher leads; returns the first one's reconciler, whose clock stands still."""
    stopped_at, lead = world.now, world.lead
    lead._clock = lambda: stopped_at
    first = world.reconciler
    world.now += world.settings.leader_seconds + 1
    world.lead = world.candidate("second")
    assert world.lead.seek()
    world.reconciler = world.new_reconciler(world.lead)
    return first


def test_who_takes_over_adopts_what_runs_and_what_starts(world):
    running, starting = world.submit(), world.submit(seed=1)
    world.tick()
    world.report(world.newest(running), RUNNING)
    take_over(world)
    world.wait(LEASE - 10)
    assert [a.state for job in (running, starting) for a in world.attempts(job)] == ["running", "starting"]
    assert world.backend.killed == []
    assert len(world.backend.started) == 2


def test_who_takes_over_waits_a_lease_before_it_gives_anything_up(world):
    job = world.submit()
    world.tick()
    world.report(world.newest(job), RUNNING)
    world.backend.workers[world.newest(job).actor] = "unknown"
    world.wait(LEASE - 4)
    take_over(world)
    world.wait(LEASE - 1)
    assert world.job(job).state == "running"
    world.wait(8)
    assert [a.state for a in world.attempts(job)] == ["lost", "starting"]


def test_a_dispatcher_that_wakes_up_after_another_took_over_starts_nothing(world):
    stopped = take_over(world)
    job = world.submit()
    with pytest.raises(NotLeading):
        stopped.tick()
    assert world.attempts(job) == []
    assert world.backend.launches == []


def test_a_dispatcher_that_wakes_up_after_another_took_over_ends_no_worker_and_no_attempt(world, monkeypatch):
    """It was about to end an attempt whose lease was over when it was stopped."""
    job = world.submit()
    world.tick()
    attempt = world.newest(job)
    world.report(attempt, RUNNING)
    world.backend.workers[attempt.actor] = "unknown"
    world.wait(LEASE)
    ask, first = world.backend.liveness, world.reconciler
    stopped = []

    def stop_here(actor):
        answer = ask(actor)
        if not stopped:
            stopped.append(world.lead)
            take_over(world)
            stopped[0]._clock = lambda: world.now  # it is awake again
            world.report(attempt)
        return answer

    monkeypatch.setattr(world.backend, "liveness", stop_here)
    world.now += 2
    world.lead.seek()
    with pytest.raises(NotLeading):
        first.tick()
    assert world.backend.killed == []
    assert world.job(job).state == "running"


@pytest.mark.parametrize("seed", range(2))
def test_random_faults_leave_every_job_done_exactly_once(world, seed):
    """Workers die, hang and come back late, the dispatcher restarts; at the end every job has succeeded once."""
    rng = random.Random(seed)
    world.settings = replace(world.settings, max_attempts=1000)
    world.restart()
    ids = [world.submit(seed=number) for number in range(6)]
    zombies: list[Attempt] = []
    for round_ in range(400):
        if all(world.job(job).state == "succeeded" for job in ids):
            break
        if rng.random() < 0.05:
            world.restart()
        world.tick(after=rng.uniform(0, 8))
        for job in ids:
            attempts = world.attempts(job)
            if not attempts or attempts[-1].state not in ("starting", "running"):
                continue
            attempt, dice = attempts[-1], rng.random()
            alive = world.backend.workers.get(attempt.actor) == "alive"
            if dice < 0.1:
                world.backend.workers[attempt.actor] = "dead"
            elif dice < 0.2 and alive:
                world.backend.workers[attempt.actor] = "unknown"
                zombies.append(attempt)
            elif dice < 0.6 and alive:
                world.report(attempt, RUNNING, {"kind": "metric", "step": round_, "values": {"loss": 1.0}})
            elif dice < 0.7 and alive:
                world.report(attempt, RUNNING, SUCCEEDED)
        for zombie in zombies:
            if world.newest(zombie.job_id).id != zombie.id:
                with pytest.raises(Problem):
                    world.report(zombie)
    assert [world.job(job).state for job in ids] == ["succeeded"] * len(ids)
    assert_invariants(world, ids)


def assert_invariants(world, ids):
    for job in ids:
        attempts = world.attempts(job)
        assert [a.number for a in attempts] == list(range(1, len(attempts) + 1))
        assert [a.epoch for a in attempts] == [a.number for a in attempts]
        assert [a.state for a in attempts if a.state not in ("lost",)] == ["succeeded"]
    started = [launch.attempt_id for launch in world.backend.started]
    with world.db.read() as session:
        assert sorted(set(started)) == sorted(session.scalars(select(Attempt.id)))
        ends = [
            event.job_id
            for event in session.scalars(select(Event).where(Event.type == "job.state"))
            if event.data["to"] in TERMINAL
        ]
    assert sorted(ends) == sorted(ids)
