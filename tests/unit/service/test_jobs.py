"""Submitting, listing, reading and cancelling jobs."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from bcd.spec import parse_spec
from tests.helpers.api import claim, distilled_spec, finish, start, submit, tiny_spec

JOBS = "/api/v1/jobs"


def test_a_submitted_job_is_queued_with_the_whole_spec(client: TestClient) -> None:
    response = client.post(JOBS, json=tiny_spec(name="first", seed=7))
    assert response.status_code == 201
    job = response.json()
    assert response.headers["Location"] == f"{JOBS}/{job['id']}"
    assert (job["state"], job["name"], job["seed"], job["methods"]) == ("queued", "first", 7, [])
    assert (job["step"], job["total_steps"], job["attempts"], job["evaluation"]) == (0, 4, [], None)
    assert job["spec"] == parse_spec(tiny_spec(name="first", seed=7)).canonical()
    assert client.get(response.headers["Location"]).json() == job


def test_faults_of_a_spec_are_named_by_json_pointers(client: TestClient) -> None:
    spec = tiny_spec(colour="red")
    spec["student"]["fpn_channels"] = 7
    response = client.post(JOBS, json=spec)
    assert (response.status_code, response.json()["type"]) == (422, "urn:bcd:invalid-spec")
    faults = {error["pointer"]: error["detail"] for error in response.json()["errors"]}
    assert faults.keys() == {"/colour", "/student/fpn_channels"}
    assert "unknown key" in faults["/colour"]
    assert client.get(JOBS).json()["items"] == []


@pytest.mark.parametrize("body", ["[]", '"text"', "1", "null", "true"])
def test_a_spec_that_is_no_object_is_refused(client: TestClient, body: str) -> None:
    assert client.post(JOBS, content=body).status_code == 422


def test_the_same_key_and_spec_give_the_same_job(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = client.post(JOBS, json=tiny_spec(), headers=headers)
    again = client.post(JOBS, json=parse_spec(tiny_spec()).canonical(), headers=headers)  # defaults written out
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = client.post(JOBS, json=tiny_spec(seed=1), headers=headers)
    assert other.status_code == 409
    assert first.json()["id"] in other.json()["detail"]


def test_without_a_key_each_submission_is_a_job(client: TestClient) -> None:
    assert submit(client)["id"] != submit(client)["id"]


def test_a_job_with_an_unfinished_teacher_waits_and_with_a_finished_one_is_queued(client: TestClient) -> None:
    teacher = submit(client)["id"]
    waiting = submit(client, distilled_spec(teacher))
    assert (waiting["state"], waiting["teacher_job_id"], waiting["methods"]) == ("waiting", teacher, ["bckd"])
    done = finish(client, tiny_spec(), 30.0)
    assert submit(client, distilled_spec(done))["state"] == "queued"


def test_a_teacher_that_cannot_be_is_refused_at_its_pointer(client: TestClient) -> None:
    cancelled = submit(client)["id"]
    client.post(f"{JOBS}/{cancelled}/cancel")
    failed, worker = start(client)
    worker.send(worker.ended("failed", cause="no such folder"))
    for teacher, word in [("job_nope", "no job"), (cancelled, "cancelled"), (failed["id"], "no such folder")]:
        response = client.post(JOBS, json=distilled_spec(teacher))
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/teacher/job"
        assert word in response.json()["errors"][0]["detail"]


def test_a_teacher_that_lacks_what_a_method_needs_is_refused_before_it_is_trained(client: TestClient) -> None:
    teacher = submit(client, tiny_spec(student={**tiny_spec()["student"], "detector": "atss"}))["id"]
    methods = [{"type": "bckd"}, {"type": "ld"}]
    response = client.post(JOBS, json={**distilled_spec(teacher), "methods": methods})
    assert response.status_code == 422
    errors = response.json()["errors"]
    assert [error["pointer"] for error in errors] == ["/methods/1"]
    assert "the teacher is ATSS" in errors[0]["detail"]
    assert submit(client, distilled_spec(teacher))["state"] == "waiting"


def test_a_queued_or_waiting_job_is_cancelled_at_once(client: TestClient) -> None:
    teacher = submit(client)["id"]
    student = submit(client, distilled_spec(teacher))["id"]
    other = submit(client, distilled_spec(teacher))["id"]
    assert client.post(f"{JOBS}/{student}/cancel").json()["state"] == "cancelled"
    response = client.post(f"{JOBS}/{teacher}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    assert client.post(f"{JOBS}/{teacher}/cancel").status_code == 200
    failed = client.get(f"{JOBS}/{other}").json()
    assert failed["state"] == "failed"
    assert teacher in failed["cause"]
    assert "cancelled" in failed["cause"]


@pytest.mark.parametrize("running", [False, True])
def test_a_job_with_a_worker_is_cancelled_through_the_worker(client: TestClient, running: bool) -> None:
    if running:
        job, worker = start(client)
        assert worker.send()["cancel"] is False
    else:
        job = submit(client)
        claim(client, job["id"])
    for _ in range(2):
        response = client.post(f"{JOBS}/{job['id']}/cancel")
        assert (response.status_code, response.json()["state"]) == (200, "cancelling")
    if running:
        assert worker.send()["cancel"] is True


def test_a_finished_job_cannot_be_cancelled(client: TestClient) -> None:
    job_id = finish(client, tiny_spec(), 10.0)
    response = client.post(f"{JOBS}/{job_id}/cancel")
    assert response.status_code == 409
    assert client.get(f"{JOBS}/{job_id}").json()["state"] == "succeeded"


def test_only_exact_ids_are_found(client: TestClient) -> None:
    job_id = submit(client)["id"]
    assert client.get(f"{JOBS}/%00").status_code in (404, 422)  # PostgreSQL has no text with NUL to look up
    for path in (job_id[:-1], "nope", "a" * 3000):
        for rest in ("", "/metrics", "/logs", "/evaluations", "/artifacts"):
            assert client.get(f"{JOBS}/{path}{rest}").status_code == 404
        assert client.post(f"{JOBS}/{path}/cancel").status_code == 404


def test_the_schema_of_the_spec_is_served(client: TestClient) -> None:
    schema = client.get("/api/v1/schema").json()
    assert {"data", "student", "methods", "seed"} <= schema["properties"].keys()
