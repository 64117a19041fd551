"""A ticket belongs to the first process that asks for it, so that no attempt is trained twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from starlette.testclient import TestClient

from service.models import Attempt
from tests.helpers.api import FakeWorker, claim, start, submit

ONE, OTHER = "node-a/17/100.00", "node-a/17/200.00"  # the same pid, given again later


def test_the_first_process_gets_the_ticket_as_often_as_it_asks_and_no_other_one_does(client: TestClient) -> None:
    job = submit(client)
    worker = FakeWorker(client, *claim(client, job["id"]))
    assert worker.ticket(ONE).status_code == 200
    assert worker.ticket(ONE).json()["attempt_id"] == worker.attempt_id
    for process in (OTHER, None):
        refused = worker.ticket(process)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:bcd:stale-attempt")
        assert "another process" in refused.json()["detail"]
    with client.app.state.db.read() as session:
        assert session.get_one(Attempt, worker.attempt_id).process == ONE
    assert client.get(f"/api/v1/jobs/{job['id']}").json()["attempts"][0]["host"] == "node-a"


def test_of_twenty_processes_that_ask_at_once_one_gets_it(client: TestClient) -> None:
    worker = FakeWorker(client, *claim(client, submit(client)["id"]))
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda i: worker.ticket(f"node/{i}/1.00").status_code, range(20)))
    assert sorted(answers) == [200] + [409] * 19


def test_a_new_attempt_is_free_again(client: TestClient) -> None:
    job, worker = start(client)
    worker.ticket(ONE)
    worker.send(worker.ended("failed", cause="x", retryable=True))
    assert FakeWorker(client, *claim(client, job["id"])).ticket(OTHER).status_code == 200


def test_a_ticket_without_a_process_binds_nothing(client: TestClient) -> None:
    worker = FakeWorker(client, *claim(client, submit(client)["id"]))
    assert worker.ticket().status_code == 200
    assert worker.ticket(ONE).status_code == 200


def test_names_of_processes_that_are_too_long_are_refused(client: TestClient) -> None:
    worker = FakeWorker(client, *claim(client, submit(client)["id"]))
    assert worker.ticket("x" * 201).status_code == 422
