"""New jobs from old ones: a retry goes on where the old one stopped, a clone differs in what its patch says."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from service.jobs.again import merge_patch
from service.models import Evaluation, Job, Point, Project, Series
from tests.helpers.api import FakeWorker, claim, distilled_spec, finish, start, submit, tiny_spec

JOBS = "/api/v1/jobs"


def do(client: TestClient, job_id: str, verb: str, body: Any = None, *, key: str | None = None, **params: Any) -> Any:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return client.post(f"{JOBS}/{job_id}/{verb}", json=body, params=params, headers=headers)


def failed_at_step_5(client: TestClient) -> tuple[dict[str, Any], FakeWorker]:
    """A job with checkpoints at 2 and 4 that reported up to step 5 and then failed."""
    job, worker = start(client, tiny_spec(schedule={**tiny_spec()["schedule"], "steps": 8}))
    for step in range(1, 6):
        worker.send(worker.metric(step, loss=10.0 - step, AP=float(step)))
        worker.send(worker.evaluation(float(step), step=step, name=f"step-{step}"))
        if step in (2, 4):
            worker.send(worker.artifact("checkpoint", f"step-{step}", step, b"checkpoint %d" % step))
    worker.send(worker.artifact("predictions", "p", 4, b"p"), worker.metric(5, late=1.0))
    worker.send(worker.ended("failed", cause="loss is not finite"))
    return job, worker


def series(client: TestClient, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"{JOBS}/{job_id}/metrics").json()["series"]
    return found


# ------------------------------------------------------------------------------------------------------- retry


def test_a_retry_is_a_new_job_that_goes_on_from_the_newest_checkpoint(client: TestClient) -> None:
    parent, _ = failed_at_step_5(client)
    response = do(client, parent["id"], "retry")
    job = response.json()
    assert (response.status_code, response.headers["Location"]) == (201, f"{JOBS}/{job['id']}")
    assert (job["state"], job["origin"], job["parent_id"]) == ("queued", "retry", parent["id"])
    assert (job["spec"], job["step"], job["total_steps"]) == (parent["spec"], 4, 8)
    worker = FakeWorker(client, *claim(client, job["id"]))
    ticket = worker.ticket().json()
    assert [one["step"] for one in ticket["resume"]] == [4, 2]
    assert client.get(f"{JOBS}/{parent['id']}").json()["state"] == "failed"


def test_the_series_and_evaluations_of_a_retry_have_no_gap_and_right_summaries(client: TestClient) -> None:
    parent, _ = failed_at_step_5(client)
    job_id = do(client, parent["id"], "retry").json()["id"]
    loss = series(client, job_id)["loss"]
    assert loss == {name: values[:4] for name, values in series(client, parent["id"])["loss"].items()}
    assert "late" not in series(client, job_id)
    worker = FakeWorker(client, *claim(client, job_id))
    worker.send(worker.running(), *(worker.metric(step, loss=3.0, AP=0.5) for step in range(5, 9)))
    assert series(client, job_id)["loss"]["steps"] == list(range(1, 9))
    with client.app.state.db.read() as session:
        rows = {one.key: one for one in session.scalars(select(Series).where(Series.job_id == job_id))}
        assert (rows["loss"].count, rows["loss"].best_step, rows["loss"].last_value) == (8, 5, 3.0)
        assert (rows["AP"].best_step, rows["AP"].best_value, rows["AP"].last_step) == (4, 4.0, 8)
        points = session.execute(select(Point.step, Point.attempt).where(Point.series_id == rows["AP"].id))
        assert {attempt for step, attempt in points if step <= 4} == {0}
        names = select(Evaluation.name).where(Evaluation.job_id == job_id).order_by(Evaluation.step)
        assert session.scalars(names).all() == ["step-1", "step-2", "step-3", "step-4"]


def test_files_that_both_jobs_name_stay_until_neither_does(client: TestClient) -> None:
    parent, _ = failed_at_step_5(client)
    files = {row["name"]: row for row in client.get(f"{JOBS}/{parent['id']}/artifacts").json()["items"]}
    job_id = do(client, parent["id"], "retry").json()["id"]
    worker = FakeWorker(client, *claim(client, job_id))
    worker.send(*(worker.artifact("checkpoint", f"step-{step}", step, b"new %d" % step) for step in (5, 6, 7, 8)))
    mine = [row["name"] for row in client.get(f"{JOBS}/{job_id}/artifacts").json()["items"]]
    assert mine == ["step-4", "step-6", "step-7", "step-8"]  # 4: nearest to the best evaluation, which it took over
    assert client.get(f"/api/v1/artifacts/{files['step-2']['id']}/content").content == b"checkpoint 2"


def test_a_retry_from_the_start_takes_nothing_over(client: TestClient) -> None:
    parent, _ = failed_at_step_5(client)
    job = do(client, parent["id"], "retry", from_start=True).json()
    assert (job["step"], series(client, job["id"])) == (0, {})
    assert client.get(f"{JOBS}/{job['id']}/artifacts").json()["items"] == []
    assert FakeWorker(client, *claim(client, job["id"])).ticket().json()["resume"] == []


def test_a_job_without_any_checkpoint_is_retried_from_the_start(client: TestClient) -> None:
    job_id = submit(client)["id"]
    do(client, job_id, "cancel")
    retried = do(client, job_id, "retry").json()
    assert (retried["state"], retried["step"], series(client, retried["id"])) == ("queued", 0, {})


def test_a_retry_keeps_the_options_and_can_be_retried_itself(client: TestClient) -> None:
    needed = finish(client, tiny_spec(), 1.0)
    options = {"priority": 4, "tag": ["x"], "group": "g", "retries": 2, "after": needed}
    parent = client.post(JOBS, json=tiny_spec(), params=options).json()
    do(client, parent["id"], "cancel")
    first = do(client, parent["id"], "retry").json()
    do(client, first["id"], "cancel")
    second = do(client, first["id"], "retry").json()
    assert second["parent_id"] == first["id"]
    for name in ("priority", "tags", "group", "retries", "needs"):
        assert second[name] == first[name] == parent[name] != submit(client)[name]


def test_a_key_makes_one_retry_however_often_it_is_sent(client: TestClient) -> None:
    parent, _ = failed_at_step_5(client)
    first = do(client, parent["id"], "retry", key="k")
    client.patch(f"{JOBS}/{parent['id']}", json={"tags": ["seen"]})  # what the parent has become changes nothing
    again = do(client, parent["id"], "retry", key="k")
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    assert do(client, parent["id"], "retry", key="k", from_start=True).status_code == 409
    assert client.post(JOBS, json=tiny_spec(), headers={"Idempotency-Key": "k"}).status_code == 409


@pytest.mark.parametrize("state", ["queued", "running", "paused", "succeeded"])
def test_only_what_failed_or_was_cancelled_is_retried(client: TestClient, state: str) -> None:
    job_id = submit(client)["id"]
    with client.app.state.db.write() as session:
        session.get_one(Job, job_id).state = state
    response = do(client, job_id, "retry")
    assert (response.status_code, state in response.json()["detail"]) == (409, True)


def test_a_student_whose_teacher_failed_cannot_be_retried_before_it_has_another(client: TestClient) -> None:
    teacher, worker = start(client)
    student = submit(client, distilled_spec(teacher["id"]))["id"]
    worker.send(worker.ended("failed", cause="x"))
    assert do(client, student, "retry").json()["errors"][0]["pointer"] == "/teacher/job"
    other = do(client, teacher["id"], "retry").json()["id"]
    cloned = do(client, student, "clone", {"teacher": {"job": other}}).json()
    assert (cloned["state"], cloned["teacher_job_id"]) == ("waiting", other)


# ------------------------------------------------------------------------------------------------------- clone


def test_a_clone_differs_in_what_its_patch_says(client: TestClient) -> None:
    parent = submit(client)
    patch = {"name": "other", "seed": 3, "schedule": {"steps": None, "epochs": 2, "warmup_steps": 0}}
    job = do(client, parent["id"], "clone", patch).json()
    assert (job["origin"], job["parent_id"], job["name"], job["seed"]) == ("clone", parent["id"], "other", 3)
    assert (job["spec"]["schedule"]["steps"], job["spec"]["schedule"]["epochs"]) == (None, 2)
    unchanged = {key: value for key, value in job["spec"].items() if key not in patch}
    assert unchanged == {key: value for key, value in parent["spec"].items() if key not in patch}
    assert do(client, parent["id"], "clone", {}).json()["spec"] == parent["spec"]


def test_a_clone_has_the_options_of_its_parent_unless_it_says_otherwise(client: TestClient) -> None:
    with client.app.state.db.write() as session:
        session.add(Project(id="cells", created_at=0.0))
    parent = client.post(JOBS, json=tiny_spec(), params={"priority": 4, "tag": "x", "group": "g"}).json()
    same = do(client, parent["id"], "clone", {}).json()
    assert (same["priority"], same["tags"], same["group"], same["project"]) == (4, ["x"], "g", "default")
    other = do(client, parent["id"], "clone", {}, priority=0, tag="y", project="cells").json()
    assert (other["priority"], other["tags"], other["group"], other["project"]) == (0, ["y"], "g", "cells")


def test_a_clone_takes_no_results_along(client: TestClient) -> None:
    parent, _ = failed_at_step_5(client)
    job = do(client, parent["id"], "clone", {}).json()
    assert (job["step"], series(client, job["id"])) == (0, {})


def test_faults_of_a_patched_spec_are_named_and_nothing_is_stored(client: TestClient) -> None:
    parent = submit(client)["id"]
    for patch, pointer in (
        ({"student": {"fpn_channels": 7}}, "/student/fpn_channels"),
        ({"data": None}, "/data"),
        ({"colour": 1}, "/colour"),
    ):
        response = do(client, parent, "clone", patch)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
    for patch in ([], "x", 1):
        assert do(client, parent, "clone", patch).status_code == 422
    assert [job["id"] for job in client.get(JOBS).json()["items"]] == [parent]


def test_a_key_makes_one_clone(client: TestClient) -> None:
    parent, other = submit(client)["id"], submit(client)["id"]
    first = do(client, parent, "clone", {"seed": 1}, key="k", priority=1)
    again = do(client, parent, "clone", {"seed": 1}, key="k", priority=1)
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    assert do(client, parent, "clone", {"seed": 2}, key="k", priority=1).status_code == 409
    assert do(client, parent, "clone", {"seed": 1}, key="k").status_code == 409
    assert do(client, other, "clone", {"seed": 1}, key="k", priority=1).status_code == 409


# The examples of RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_standard_says(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result
