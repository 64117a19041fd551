"""The queue in the database: claims count what lives, never hand out too much, and tell who waits why."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import event, select, update

from service.attempts.service import LIVE
from service.db import Database
from service.dispatch.fake_backend import FakeBackend, node
from service.dispatch.queue import LOOK, Queue, retry_pause
from service.jobs import service as jobs
from service.jobs.options import Options
from service.models import Attempt, Job, JobState, Node, Project
from tests.helpers.api import ROOT

from .conftest import RUNNING, SPEC, SUCCEEDED, checkpoint

FULL_DISK = {"kind": "state", "state": "failed", "cause": "No space left on device", "retryable": True}


def reason(world, job_id):
    return world.job(job_id).wait_reason


def make_project(world, name, **quota):
    with world.db.write() as session:
        session.add(Project(id=name, created_at=0.0, **quota))


def submit_to(world, project, **changes):
    return jobs.submit(world.db, ROOT, {**SPEC, **changes}, Options(project=project))[0].id


def test_priority_is_read_from_the_job(world):
    first, urgent = world.submit(), world.submit(seed=1)
    with world.db.write() as session:
        session.get(Job, urgent).priority = 3
    world.backend.sizes = [node("head", cpus=1)]
    world.tick()
    assert (world.job(first).state, world.job(urgent).state) == ("queued", "starting")


def test_projects_take_turns(world):
    make_project(world, "cells")
    ours = [world.submit(seed=i) for i in range(3)]
    theirs = submit_to(world, "cells")
    world.tick()
    assert [world.job(id).state for id in (*ours, theirs)] == ["starting", "queued", "queued", "starting"]


def test_a_quota_holds_and_is_told(world):
    make_project(world, "cells", max_jobs=1)
    first, second = submit_to(world, "cells"), submit_to(world, "cells", seed=1)
    world.tick()
    assert world.job(first).state == "starting"
    assert reason(world, second) == "project cells has its 1 job running (quota)"
    world.report(world.newest(first), RUNNING, SUCCEEDED)
    world.tick()
    assert (world.job(second).state, reason(world, second)) == ("starting", None)


def test_shares_and_memory_are_kept_with_the_attempt(world):
    world.backend.sizes = [node("head", cpus=4, gpus=1, memory=10)]
    halves = [world.submit(resources={"gpus": 0.5, "memory": 4}, seed=i) for i in range(3)]
    world.tick()
    assert [world.job(id).state for id in halves] == ["starting", "starting", "queued"]
    attempt = world.newest(halves[0])
    assert (attempt.gpus, attempt.memory, attempt.node) == (0.5, 4, "head")
    assert reason(world, halves[2]) == "waits for 0.5 of a GPU: 0 of 1 free"


def test_a_waiting_job_says_which_job_it_waits_for_and_how_that_one_is(world):
    teacher = world.submit()
    student = world.submit(teacher={"job": teacher}, methods=[{"type": "bckd"}])
    world.tick()
    world.wait(3)
    assert reason(world, student) == f"waits for job {teacher} (starting)"
    world.report(world.newest(teacher), RUNNING)
    world.wait(3)
    assert reason(world, student) == f"waits for job {teacher} (running)"


def test_reasons_are_written_only_where_they_change(world):
    world.backend.sizes = [node("head", cpus=1)]
    for seed in range(4):
        world.submit(seed=seed)
    world.tick()
    world.wait(3)
    written = []
    event.listen(
        world.db.engine, "before_cursor_execute", lambda c, cursor, statement, *rest: written.append(statement)
    )
    world.wait(10)
    assert [s for s in written if s.startswith("UPDATE jobs")] == []
    assert any(s.startswith("SELECT") for s in written)


def test_those_far_behind_are_told_so_in_one_go(world, monkeypatch):
    monkeypatch.setattr("service.dispatch.words.MANY", 2)
    monkeypatch.setattr("service.dispatch.placement.MANY", 2)
    world.backend.sizes = [node("head", cpus=1)]
    ids = [world.submit(seed=seed) for seed in range(5)]
    world.tick()
    assert [reason(world, id) for id in ids] == [
        None,
        "waits for 1 CPU: 0 of 1 free",
        "waits for 1 CPU: 0 of 1 free, 1 job ahead",
        "waits with more than 2 jobs ahead",
        "waits with more than 2 jobs ahead",
    ]


def test_a_long_queue_of_one_project_hides_no_other_project(world):
    make_project(world, "cells")
    first = world.job(world.submit())
    with world.db.write() as session:
        session.add_all(copies(first, LOOK + 50))
    late = submit_to(world, "cells")
    world.tick()
    assert world.job(late).state == "starting"
    with world.db.read() as session:
        reasons = list(session.scalars(select(Job.wait_reason).where(Job.state == "queued")))
    assert len(reasons) == LOOK + 50
    assert None not in reasons


def copies(job: Job, count: int, **changes) -> list[Job]:
    same = {c.name: getattr(job, c.key) for c in Job.__table__.columns if c.key in Job.__mapper__.attrs}
    same["group"] = job.group
    return [Job(**{**same, "id": f"{job.id}-{changes.get('state', '')}{i}", **changes}) for i in range(count)]


def test_every_job_is_told_when_the_cluster_does_not_answer(world):
    job = world.submit()
    world.backend.away = True
    with pytest.raises(Exception, match="does not answer"):
        world.tick()
    assert reason(world, job) == "the cluster does not answer"
    world.backend.away = False
    world.tick()
    assert reason(world, job) is None


# ------------------------------------------------------------------------------------- after a fault


def test_pauses_double_up_to_a_minute():
    assert [retry_pause(n, 1.0) for n in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def settings_with(world, **changes):
    world.settings = replace(world.settings, **changes)
    world.restart()


def test_after_a_fault_of_the_infrastructure_a_job_pauses_longer_each_time(world):
    settings_with(world, retry_seconds=4.0, max_attempts=5)
    job = world.submit()
    for number, pause in ((1, 4.0), (2, 8.0), (3, 16.0)):
        world.tick()
        assert len(world.attempts(job)) == number
        world.backend.workers[world.newest(job).actor] = "dead"
        world.tick(2)
        assert world.job(job).state == "queued"
        world.wait(pause - 1)
        assert len(world.attempts(job)) == number
        assert reason(world, job).startswith("tries again at ")
        assert reason(world, job).endswith("the last attempt ended: its worker process ended without a last word")
        world.now += 1.1


def test_a_job_that_moved_forward_is_tried_again_at_once(world):
    settings_with(world, retry_seconds=30.0)
    job = world.submit()
    world.tick()
    world.report(world.newest(job), RUNNING, checkpoint(5), FULL_DISK)
    world.tick()
    assert len(world.attempts(job)) == 2


# ------------------------------------------------------------------------------------- too large


def test_a_job_waits_a_while_for_a_node_that_could_hold_it_before_it_fails(world):
    settings_with(world, unplaceable_seconds=600.0)
    job = world.submit(resources={"gpus": 1})
    world.wait(590, every=50)
    assert world.job(job).state == "queued"
    assert reason(world, job).startswith("needs 1 GPU and there is none: set resources.gpus to 0, or add a node")
    assert " UTC for such a node" in reason(world, job)
    world.wait(70, every=10)
    assert world.job(job).state == "failed"
    assert world.job(job).cause.startswith("the job needs 1 GPU and there is none: set resources.gpus to 0")


def test_the_node_that_it_waits_for_may_come_in_time(world):
    settings_with(world, unplaceable_seconds=600.0)
    job = world.submit(resources={"gpus": 1})
    world.wait(300, every=50)
    world.backend.sizes.append(node("gpu", cpus=4, gpus=1))
    world.tick()
    assert world.newest(job).node == "gpu"


def test_a_job_waits_for_the_node_that_is_away_and_could_hold_it(world):
    world.backend.sizes = [node("head", cpus=2), node("gpu", cpus=4, gpus=1)]
    world.tick()
    world.backend.sizes = [node("head", cpus=2)]
    job = world.submit(resources={"gpus": 1})
    world.wait(3600, every=300)
    assert world.job(job).state == "queued"
    assert reason(world, job).endswith("node gpu, which has it, is away")


def test_a_machine_that_comes_back_with_another_id_is_one_machine(world):
    world.tick()
    with world.db.read() as session:
        assert [(row.id, row.alive) for row in session.scalars(select(Node))] == [("head", True)]
    world.backend.sizes = [type(world.backend.sizes[0])("other", "head", True, 8, 0, 64.0)]
    world.tick()
    with world.db.read() as session:
        assert [(row.id, row.alive, row.cpus) for row in session.scalars(select(Node))] == [("other", True, 8)]


# ------------------------------------------------------------------------------------- at once


def test_a_job_that_is_cancelled_while_it_is_claimed_is_not_started(world, monkeypatch):
    """Between the look at the queue and the claim."""
    job, draft = world.submit(), Queue.draft

    def cancel_after(self, session, *args, **given):
        made = draft(self, session, *args, **given)
        session.execute(update(Job).where(Job.id == job).values(state="cancelled"))
        return made

    monkeypatch.setattr(Queue, "draft", cancel_after)
    world.tick()
    assert world.attempts(job) == []
    assert world.backend.launches == []


def test_claims_at_once_never_hand_out_too_much(world):
    """Dispatchers that all believe to lead: 4 threads claim for 5 CPUs and 1.5 GPUs while jobs end."""
    nodes = [node("a", cpus=3, gpus=1), node("b", cpus=2)]
    make_project(world, "cells", max_jobs=2)
    for seed in range(12):
        world.submit(seed=seed, resources={"gpus": 0.5} if seed % 3 == 0 else {})
        submit_to(world, "cells", seed=seed)
    faults: list[object] = []
    stop = threading.Event()

    def claim() -> None:
        db, queue, backend = Database(world.settings.database_url), Queue(world.settings), FakeBackend()
        try:
            while not stop.is_set():
                with db.write() as session:
                    queue.claim(session, nodes, backend.pick_actor, now=time.time())
        except Exception as error:
            faults.append(error)
        db.close()

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 100
    try:
        while time.monotonic() < deadline and not faults:
            with world.db.read() as session:
                rows = list(session.execute(select(Attempt, Job.project_id).join(Job).where(Attempt.state.in_(LIVE))))
                left = session.scalar(select(Job.id).where(Job.state.in_(["queued", "starting"])).limit(1))
            if left is None:
                break
            assert sum(a.cpus for a, _ in rows) <= 5
            assert sum(a.gpus for a, _ in rows) <= 1
            assert sum(project == "cells" for _, project in rows) <= 2
            for attempt, _ in rows[:2]:
                world.report(attempt, RUNNING, SUCCEEDED)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert faults == []
    with world.db.read() as session:
        assert set(session.scalars(select(Job.state))) == {"succeeded"}
        assert list(session.scalars(select(Attempt.number).where(Attempt.number != 1))) == []


def test_a_claim_reads_the_queue_by_its_index(world):
    """With many finished jobs a scan of all of them would take long."""
    first = world.job(world.submit())
    with world.db.write() as session:
        session.add_all(copies(first, 3000, state=JobState.SUCCEEDED.value))
    statements: list[tuple[str, object]] = []

    @event.listens_for(world.db.engine, "before_cursor_execute")
    def note(connection, cursor, statement, parameters, *rest):
        if statement.startswith(("SELECT", "WITH")) and "FROM jobs" in statement:
            statements.append((statement, parameters))

    with world.db.read() as session:
        Queue(world.settings).draft(session, world.backend.sizes, world.backend.pick_actor, now=world.now)
    event.remove(world.db.engine, "before_cursor_execute", note)
    assert statements
    with world.db.engine.connect() as connection:
        if not world.db.is_sqlite:
            connection.exec_driver_sql("ANALYZE")
        for statement, parameters in statements:
            explain = "EXPLAIN QUERY PLAN " if world.db.is_sqlite else "EXPLAIN "
            found = "\n".join(map(str, connection.exec_driver_sql(explain + statement, parameters)))
            assert "Seq Scan on jobs" not in found, found
            assert "SCAN jobs" not in found, found
