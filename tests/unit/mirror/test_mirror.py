"""The mirror in a real MLflow ends up equal to the database, whatever happens on the way."""

from __future__ import annotations

import contextlib
import json
import random
import time

import httpx
import pytest

from service.jobs.states import write_event
from service.mirror.loop import Mirror
from service.mirror.mlflow_api import Mlflow, MlflowAway
from service.mirror.wanted import GROUP, PARENT, group_id
from service.models import Evaluation, Job, JobTag
from service.models import Mirror as Row


def test_a_finished_job_is_copied_completely_and_once(world):
    job = world.finish(world.submit(name="a/b", seed=7))
    world.copy()
    run = world.run(job)
    assert run.status == "FINISHED"
    assert run.params["schedule.batch_size"] == "2"
    assert world.values(job) == [(step, 1 / step) for step in range(1, 6)]
    assert world.values(job, "final/AP") == [(5, 30.5)]
    assert world.content(job, "result/student.safetensors") == b"weights " + job.encode()
    assert world.content(job, "checkpoint/step-00000005.ckpt") == b"checkpoint " + job.encode()
    assert (world.pending(), world.differences()) == (0, [])
    world.faults.requests.clear()
    world.restart()
    world.copy()
    assert world.faults.requests == []


def test_a_run_tells_what_it_rests_on_and_where_it_is_in_bcd(world):
    teacher = world.finish(world.submit(name="teacher"))
    job = world.submit(seed=7, teacher={"job": teacher}, methods=[{"type": "bckd"}])
    with world.db.write() as session:
        session.add(JobTag(job_id=job, tag="night"))
    world.finish(job)
    world.copy()
    tags = world.run(job).tags
    expected = {
        "bcd.job_id": job, "bcd.url": f"{world.settings.api_url}/api/v1/jobs/{job}", "bcd.project": "default",
        "bcd.user": "admin", "bcd.seed": "7", "bcd.methods": "bckd", "bcd.state": "succeeded", "bcd.attempts": "1",
        "bcd.priority": "0", "bcd.tag.night": "night", "bcd.teacher": teacher, "bcd.git_commit": "c0ffee",
        "bcd.data_version": "d" * 64, "mlflow.source.git.commit": "c0ffee", "mlflow.user": "admin",
    }  # fmt: skip
    assert {key: tags.get(key) for key in expected} == expected
    (weights,) = (
        a for a in world.client.get(f"/api/v1/jobs/{teacher}/artifacts").json()["items"] if a["type"] == "result"
    )
    assert tags["bcd.teacher_sha256"] == weights["sha256"]
    assert world.differences() == []


def test_the_api_tells_where_a_job_is_in_mlflow(world):
    job = world.finish(world.submit())
    unknown = {"experiment_id": None, "run_id": None, "url": None, "complete": False, "error": None}
    assert world.client.get(f"/api/v1/jobs/{job}/mlflow").json() == unknown
    world.copy()
    run = world.run(job).id
    found = world.client.get(f"/api/v1/jobs/{job}/mlflow").json()
    assert (found["run_id"], found["complete"], found["error"]) == (run, True, None)
    experiment = found["experiment_id"]
    assert found["url"] == f"https://mlflow.example.org/#/experiments/{experiment}/runs/{run}"
    assert world.client.get("/api/v1/jobs/job_none/mlflow").status_code == 404


def test_steps_that_a_retry_may_do_again_wait_for_the_next_checkpoint(world):
    job = world.submit()
    worker = world.work(job)
    worker.send(*(worker.metric(step, loss=0.5) for step in (1, 2, 3)))
    worker.send(worker.artifact("checkpoint", "step-00000003.ckpt", 3, b"c"), worker.metric(4, loss=9.0))
    world.copy()
    assert world.values(job) == [(1, 0.5), (2, 0.5)]
    assert world.run(job).tags["bcd.state"] == "running"
    assert world.pending() == 1
    worker.send(worker.metric(4, loss=0.5), worker.ended("succeeded"))
    world.copy()
    assert world.values(job) == [(step, 0.5) for step in range(1, 5)]
    assert world.differences() == []


def test_a_job_that_did_copied_steps_again_gets_a_run_without_the_old_values(world):
    job = world.submit()
    first = world.work(job)
    first.send(*(first.metric(step, loss=1.0) for step in (1, 2, 3)))
    first.send(first.artifact("checkpoint", "step-00000003.ckpt", 3, b"damaged later"))
    world.copy()
    assert world.values(job) == [(1, 1.0), (2, 1.0)]
    before = world.run(job).id
    world.lose(first)
    second = world.work(job)  # begins from scratch, because the checkpoint cannot be read
    second.send(*(second.metric(step, loss=2.0) for step in (1, 2, 3, 4)), second.ended("succeeded"))
    world.copy()
    assert world.values(job) == [(step, 2.0) for step in range(1, 5)]
    assert world.run(job).id != before
    assert world.differences() == []


def test_a_quiet_round_is_one_query_and_no_request(world):
    world.finish(world.submit())
    worker = world.work(world.submit(seed=1))
    world.copy()
    world.faults.requests.clear()
    statements = world.count_queries()
    world.mirror.copy_news()
    assert (len(statements), world.faults.requests) == (1, [])
    worker.send(worker.metric(1, loss=0.5))  # no checkpoint behind it: nothing to copy yet
    statements.clear()
    world.mirror.copy_news()
    assert (len(statements), world.faults.requests) == (1, [])


def test_failed_and_cancelled_jobs_are_copied_with_their_cause(world):
    failed, cancelled = world.submit(), world.submit(seed=1)
    worker = world.work(failed)
    worker.send(worker.ended("failed", cause="the loss is not finite"))
    world.client.post(f"/api/v1/jobs/{cancelled}/cancel")
    world.copy()
    assert (world.run(failed).status, world.run(cancelled).status) == ("FAILED", "KILLED")
    assert world.run(failed).tags["bcd.cause"] == "the loss is not finite"
    assert world.differences() == []


@pytest.mark.parametrize("seed", range(3))
def test_catches_up_after_any_outage_without_gap_or_double(world, seed):
    rng = random.Random(seed)
    jobs = [world.finish(world.submit(seed=number, group=f"g{seed}"), steps=700) for number in range(2)]
    world.faults.fault = lambda request: rng.choice(["refused", "500", "lost", *[None] * 9])
    world.copy_whatever_happens()
    world.faults.fault = lambda request: None
    assert (world.pending(), world.differences()) == (0, [])
    assert [len(world.values(job)) for job in jobs] == [700, 700]


def test_a_dispatcher_that_is_killed_at_any_request_leaves_nothing_twice(world):
    """One job for each request that a copy makes: that one has its effect, and nobody hears of it any more."""
    for requests in range(40):
        world.finish(world.submit(seed=requests, group=f"killed at {requests}"), steps=3)
        world.restart()
        left = iter([*[None] * requests, "lost"])
        world.faults.fault = lambda request, left=left: next(left, "refused")
        with contextlib.suppress(MlflowAway):
            world.copy()
        whole = next(left, None) == "lost"
        world.faults.fault = lambda request: None
        world.restart()
        world.copy()
        if whole:
            break
    assert whole
    assert (world.pending(), world.differences()) == (0, [])


def test_a_run_that_somebody_deletes_is_copied_anew(world):
    running, done = world.submit(), world.finish(world.submit(seed=1))
    worker = world.work(running)
    world.copy()
    for job in (running, done):
        world.mlflow.delete_run(world.run(job).id)
    worker.send(worker.metric(1, loss=0.5), worker.ended("succeeded"))
    world.copy()  # MLflow refuses what is meant for the deleted run
    world.mirror.audit()
    world.copy()
    assert [run.status for run in (world.run(running), world.run(done))] == ["FINISHED", "FINISHED"]
    assert world.differences() == []


def test_everything_is_copied_again_when_mlflow_has_lost_its_database(world):
    jobs = [world.finish(world.submit(seed=seed, group="lost")) for seed in range(3)]
    world.copy()
    world.server.lose_everything()
    assert len(world.differences()) >= 3
    world.mirror.audit()
    world.copy()
    assert (world.pending(), world.differences()) == (0, [])
    assert all(world.run(job).status == "FINISHED" for job in jobs)


def test_a_run_of_which_the_database_knows_nothing_is_replaced(world):
    """As after going back to a back-up: what MLflow has may differ from what happens from now on."""
    job = world.finish(world.submit())
    world.copy()
    before = world.run(job).id
    with world.db.write() as session:
        session.delete(session.get(Row, job))
    world.restart()
    world.copy()
    assert world.run(job).id != before
    assert world.differences() == []


@pytest.mark.parametrize("fault", ["400", "500"])
def test_one_job_that_mlflow_does_not_take_does_not_hold_up_the_others(world, fault):
    odd = world.submit(name="odd")
    plain = [world.finish(world.submit(name="plain", seed=seed)) for seed in range(3)]
    world.faults.fault = lambda request: fault if b'"odd"' in request.read() else None
    world.copy()
    assert [world.run(job).status for job in plain] == ["FINISHED"] * 3
    assert odd in world.mirror.error
    assert world.row(odd).error
    world.faults.fault = lambda request: None
    world.copy()
    assert world.run(odd).status == "SCHEDULED"
    assert world.row(odd).error is None


def test_a_round_ends_when_mlflow_answers_nobody(world):
    for seed in range(20):
        world.submit(seed=seed)
    world.faults.fault = lambda request: "500"
    with pytest.raises(MlflowAway):
        world.copy()
    assert len(world.faults.requests) == 3


def test_runs_of_a_group_are_nested_in_one_run_of_their_own(world):
    first, second = world.submit(group="it's a sweep"), world.submit(group="it's a sweep", seed=1)
    world.finish(first)
    world.copy()
    tag = GROUP, group_id("default", "it's a sweep")
    (parent,) = world.mlflow.find_runs([world.row(first).done["experiment"]], *tag)
    assert (parent.name, parent.status, parent.tags["bcd.group"]) == ("it's a sweep", "RUNNING", "it's a sweep")
    world.finish(second)
    world.restart()
    world.copy()
    (parent,) = world.mlflow.find_runs([world.row(first).done["experiment"]], *tag)
    assert parent.status == "FINISHED"
    assert {world.run(job).tags[PARENT] for job in (first, second)} == {parent.id}
    assert world.differences() == []


def test_the_run_of_a_group_that_somebody_deletes_is_made_again(world):
    jobs = [world.finish(world.submit(seed=seed, group="gone")) for seed in range(2)]
    world.copy()
    parent = world.run(jobs[0]).tags[PARENT]
    world.mlflow.delete_run(parent)
    world.mirror.audit()
    world.copy()
    (again,) = {world.run(job).tags[PARENT] for job in jobs}
    assert again != parent
    assert world.differences() == []


def test_each_project_has_an_experiment_and_models_of_its_own(world):
    cells = world.project(f"cells{random.randrange(10**9)}")  # the server is shared with other tests
    here, there = world.finish(world.submit(name="s"), 10.0), world.finish(world.submit(name="s", project=cells), 90.0)
    world.copy()
    assert world.mlflow.find_experiment("bcd") == world.row(here).done["experiment"]
    assert world.mlflow.find_experiment(f"bcd/{cells}") == world.row(there).done["experiment"]
    assert world.mlflow.aliases(f"bcd.{cells}.s") == {"newest": "1", "best": "1"}
    assert world.mlflow.aliases("bcd-s")["best"] == world.row(here).done["version"]
    assert world.differences() == []


def test_aliases_point_at_the_newest_version_and_at_the_best_of_its_protocol(world):
    name = f"student-{random.random()}"
    jobs = [world.submit(name=name, seed=seed) for seed in range(4)]

    def pointed() -> tuple[str, str]:
        world.copy()
        aliases = world.mlflow.aliases(f"bcd-{name}")
        version = {world.row(job).done["version"]: job for job in jobs if world.pending_of(job) is False}
        return version[aliases["newest"]], version[aliases["best"]]

    world.finish(jobs[0], 30.0)
    assert pointed() == (jobs[0], jobs[0])
    world.finish(jobs[1], 20.0)
    assert pointed() == (jobs[1], jobs[0])
    world.finish(jobs[2], 40.0)
    assert pointed() == (jobs[2], jobs[2])
    world.finish(jobs[3], 5.0, protocol="another validation set")
    assert pointed() == (jobs[3], jobs[3])
    assert world.differences() == []


def test_what_changes_after_the_end_is_copied_too(world):
    job = world.finish(world.submit())
    world.copy()
    for tags in (["keep", "drop"], ["keep"]):
        with world.db.write() as session:
            session.query(JobTag).where(JobTag.job_id == job).delete()
            session.add_all(JobTag(job_id=job, tag=tag) for tag in tags)
            write_event(session, "job.changed", session.get(Job, job), actor="user", data={"tags": tags})
        world.copy()
        assert {key for key in world.run(job).tags if key.startswith("bcd.tag.")} == {f"bcd.tag.{tag}" for tag in tags}
        assert world.differences() == []


def test_metric_names_that_mlflow_does_not_take_stay_apart(world):
    job = world.submit()
    worker = world.work(job)
    names = ["AP/traffic light", "AP/a,b", "AP/a_b", "AP/a;b", "AP/../x", "AP/é", "a/b/c", "a/b_c", "/x", ".", "a//"]
    worker.send(worker.metric(1, **{name: float(place) for place, name in enumerate(names)}), worker.ended("succeeded"))
    world.copy()
    found = {key: world.values(job, key) for key in world.run(job).metric_keys}
    assert sorted(found.values()) == [[(1, float(place))] for place in range(len(names))]
    assert found["AP/traffic light"] == [(1, 0.0)]
    assert world.differences() == []


def test_a_file_that_storage_has_lost_is_told_and_holds_nothing_up(world):
    job = world.submit()
    worker = world.work(job)
    record = worker.artifact("result", "student.safetensors", 1, b"to be lost " + job.encode())
    worker.send(record, worker.ended("succeeded"))
    (world.settings.storage / record["key"]).unlink()
    world.copy()
    assert world.pending() == 0
    error = world.client.get(f"/api/v1/jobs/{job}/mlflow").json()["error"]
    assert error.startswith("result/student.safetensors cannot be copied: ")


def test_of_several_dispatchers_only_the_one_that_leads_mirrors(world):
    world.finish(world.submit())
    follower = Mirror(world.settings, world.db, Mlflow(world.server.url, transport=world.faults), leading=lambda: False)
    follower.copy_news()
    assert (world.faults.requests, world.pending()) == ([], 1)


def test_the_thread_copies_and_tells_when_mlflow_comes_back(world):
    job = world.finish(world.submit())
    world.faults.fault = lambda request: "refused"
    mirror = Mirror(world.settings, world.db, Mlflow(world.server.url, transport=world.faults))
    path = world.settings.run / "mirror.json"
    mirror.start()
    try:
        while not path.exists():
            time.sleep(0.01)
        assert json.loads(path.read_text()) == {"pending": 1, "error": "MLflow does not answer"}
        world.faults.fault = lambda request: None
        while json.loads(path.read_text()) != {"pending": 0, "error": None}:
            time.sleep(0.01)
    finally:
        mirror.stop(timeout=30)
    assert world.run(job).status == "FINISHED"


def test_an_mlflow_that_does_not_know_its_own_name_says_what_to_change(world):
    mlflow = Mlflow(f"http://127.0.0.1:{world.server.port}", transport=Renamed())
    with pytest.raises(MlflowAway, match="allowed-hosts"):
        mlflow.experiment("bcd")


class Renamed(httpx.BaseTransport):
    """The server, called by a name that it was not told."""

    def __init__(self):
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request):
        request.headers["Host"] = "mlflow.internal"
        response = self._inner.handle_request(request)
        response.read()
        return response


def test_an_evaluation_without_ap_still_gives_a_version(world):
    name = f"plain-{random.random()}"
    job = world.finish(world.submit(name=name), None)
    world.copy()
    assert world.mlflow.aliases(f"bcd-{name}") == {"newest": "1"}
    with world.db.read() as session:
        assert session.query(Evaluation).where(Evaluation.job_id == job).one().results["AP"] is None
    assert world.differences() == []


def test_specs_of_odd_content_are_copied(world):
    job = world.submit(name="quotes \" and ' and ü")
    world.finish(job)
    world.copy()
    assert world.run(job).name == "quotes \" and ' and ü"
    assert world.differences() == []
