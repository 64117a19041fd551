"""What a driver may do: one at a time, no trial twice, none beyond the budget, and never with another's token."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.auth import sweep_token
from service.models import Attempt, Sweep
from tests.helpers.api import FakeDriver, FakeWorker, claim, end_job, tiny_sweep

V1 = "/api/v1"


@pytest.fixture
def sweep(client: TestClient) -> str:
    return _submit(client)


def _submit(client: TestClient, **changes: Any) -> str:
    made = client.post(f"{V1}/sweeps", json=tiny_sweep(**changes))
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def test_the_same_number_is_the_same_trial_with_its_first_parameters(client: TestClient, sweep: str) -> None:
    driver = FakeDriver(client, sweep)
    first = driver.add(1, lr=0.01, width=4)
    again = driver.add(1, lr=0.05, width=8)
    assert (again["job_id"], again["params"]) == (first["job_id"], first["params"])
    assert len(client.get(f"{V1}/jobs").json()["items"]) == 1
    skipped = driver.call("POST", "/trials", {"number": 3, "params": {}})
    assert skipped.status_code == 422
    assert "next trial is number 2" in skipped.json()["detail"]


def test_asked_for_at_once_a_trial_is_made_once(client: TestClient, sweep: str) -> None:
    driver = FakeDriver(client, sweep)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: driver.add(1, lr=0.01 + i / 1000, width=4), range(8)))
    assert len({one["job_id"] for one in made}) == 1
    assert len({str(one["params"]) for one in made}) == 1


def test_an_older_driver_is_not_heard(client: TestClient, sweep: str) -> None:
    old = FakeDriver(client, sweep)
    old.add(1, lr=0.01, width=4)
    new = FakeDriver(client, sweep)
    for method, path, body in (
        ("GET", "/ticket", None),
        ("POST", "/beat", None),
        ("POST", "/trials", {"number": 2, "params": {}}),
        ("GET", "/trials/1", None),
        ("POST", "/trials/1/stop", {"why": "x"}),
        ("POST", "/end", {}),
    ):
        refused = old.call(method, path, body)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:bcd:stale-driver"), path
    assert new.add(1, lr=0.03, width=4)["number"] == 1


def test_a_token_opens_its_own_sweep_and_epoch_only(client: TestClient, sweep: str) -> None:
    driver = FakeDriver(client, sweep)
    other = _submit(client)
    settings = client.app.state.settings
    for token, epoch in (
        (sweep_token(settings, other, driver.epoch), driver.epoch),
        (sweep_token(settings, sweep, driver.epoch), driver.epoch + 1),
        ("", driver.epoch),
    ):
        headers = {"Authorization": f"Bearer {token}", "X-Epoch": str(epoch)}
        answer = client.get(f"{V1}/sweep-drivers/{sweep}/ticket", headers=headers)
        assert answer.status_code == 401


def test_the_budget_of_trials_ends_the_search(client: TestClient) -> None:
    driver = FakeDriver(client, _submit(client, budget={"trials": 1}))
    driver.add(1, lr=0.01, width=4)
    spent = driver.call("POST", "/trials", {"number": 2, "params": {"student.width": 4}})
    assert (spent.status_code, spent.json()["type"]) == (409, "urn:bcd:budget-spent")
    assert driver.add(1, lr=0.01, width=4)["number"] == 1  # what has begun goes on


def test_the_budget_of_hours_counts_the_search_and_not_its_pauses(client: TestClient) -> None:
    sweep = _submit(client, budget={"hours": 1.0})
    driver = FakeDriver(client, sweep)

    def elapsed(seconds: float, *, before: float = 0.0) -> None:
        with client.app.state.db.write() as session:
            row = session.get(Sweep, sweep)
            row.searching_since, row.searched = time.time() - seconds, before

    elapsed(1800)
    driver.add(1, lr=0.01, width=4)
    elapsed(100, before=3000)
    driver.add(2, lr=0.01, width=4)
    elapsed(700, before=3000)
    spent = driver.call("POST", "/trials", {"number": 3, "params": {"student.width": 4}})
    assert spent.json()["type"] == "urn:bcd:budget-spent"
    assert "1 hours are over" in spent.json()["detail"]


def test_the_budget_of_gpu_hours_counts_gpus_times_hours_of_all_attempts(client: TestClient) -> None:
    sweep = _submit(client, budget={"gpu_hours": 1.0})
    driver = FakeDriver(client, sweep)
    attempt, _ = claim(client, driver.add(1, lr=0.01, width=4)["job_id"])

    def held(gpus: float, seconds: float) -> None:
        with client.app.state.db.write() as session:
            row = session.get(Attempt, attempt)
            row.gpus, row.created_at = gpus, time.time() - seconds

    held(0.5, 3600)
    driver.add(2, lr=0.01, width=4)
    held(2, 1900)
    spent = driver.call("POST", "/trials", {"number": 3, "params": {"student.width": 4}})
    assert spent.json()["type"] == "urn:bcd:budget-spent"
    assert "1.06 of 1 GPU hours" in spent.json()["detail"]


def test_a_search_that_goes_on_says_for_how_long(client: TestClient, sweep: str) -> None:
    with client.app.state.db.write() as session:
        row = session.get(Sweep, sweep)
        row.searching_since, row.searched = time.time() - 100, 50.0
    assert 150 <= client.get(f"{V1}/sweeps/{sweep}").json()["searched_seconds"] < 160


def test_a_trial_reports_its_evaluations_but_the_last_only_when_it_has_ended(client: TestClient, sweep: str) -> None:
    driver = FakeDriver(client, sweep)
    job = driver.add(1, lr=0.01, width=4)["job_id"]
    worker = FakeWorker(client, *claim(client, job))
    worker.send(worker.running(), worker.metric(1, AP=10.0), worker.metric(2, AP=20.0), worker.metric(4, AP=25.0))
    trial = driver.ask("GET", "/trials/1?after=1")
    assert (trial["state"], trial["reports"], trial["values"]) == ("running", [{"step": 2, "value": 20.0}], None)
    worker.send(worker.evaluation(26.0), worker.ended("succeeded"))
    trial = driver.ask("GET", "/trials/1")
    assert [one["step"] for one in trial["reports"]] == [1, 2, 4]
    assert trial["values"] == [26.0]


def test_the_best_of_a_run_where_the_objective_asks_for_it(client: TestClient) -> None:
    sweep = _submit(client, objectives=[{"metric": "AP", "at": "best"}])
    driver = FakeDriver(client, sweep)
    end_job(client, driver.add(1, lr=0.01, width=4)["job_id"], 20.0, reports={1: 10.0, 2: 35.0})
    assert driver.ask("GET", "/trials/1")["values"] == [35.0]


def test_a_trial_that_is_stopped_keeps_the_reason(client: TestClient, sweep: str) -> None:
    driver = FakeDriver(client, sweep)
    job = driver.add(1, lr=0.01, width=4)["job_id"]
    worker = FakeWorker(client, *claim(client, job))
    worker.send(worker.running(), worker.metric(1, AP=1.0))
    driver.ask("POST", "/trials/1/stop", {"why": "stopped by ASHA at step 1: AP 1.00"})
    assert client.get(f"{V1}/jobs/{job}").json()["state"] == "cancelling"
    worker.send(worker.ended("cancelled"))
    [trial] = client.get(f"{V1}/sweeps/{sweep}/trials").json()["items"]
    assert (trial["state"], trial["stopped"], trial["last"]) == ("cancelled", "stopped by ASHA at step 1: AP 1.00", 1.0)
    # one that has succeeded was not stopped, whatever a late driver says
    other = driver.add(2, lr=0.01, width=4)["job_id"]
    end_job(client, other, 30.0)
    driver.ask("POST", "/trials/2/stop", {"why": "late"})
    assert client.get(f"{V1}/sweeps/{sweep}/trials").json()["items"][1]["stopped"] is None


def test_the_search_ends_only_once_every_trial_has(client: TestClient, sweep: str) -> None:
    driver = FakeDriver(client, sweep)
    job = driver.add(1, lr=0.01, width=4)["job_id"]
    early = driver.call("POST", "/end", {})
    assert (early.status_code, early.json()["type"]) == (409, "urn:bcd:trials-run")
    end_job(client, job, 30.0)
    driver.ask("POST", "/end", {})
    assert client.get(f"{V1}/sweeps/{sweep}").json()["state"] == "succeeded"
    assert driver.call("POST", "/end", {}).status_code == 409


def test_equal_failures_in_a_row_end_the_sweep_with_their_cause(client: TestClient) -> None:
    sweep = _submit(client, equal_failures=2)
    driver = FakeDriver(client, sweep)
    for number, ap in ((1, None), (2, 30.0), (3, None)):
        end_job(client, driver.add(number, lr=0.01, width=4)["job_id"], ap)
    end_job(client, driver.add(4, lr=0.01, width=4)["job_id"], None)
    refused = driver.call("POST", "/trials", {"number": 5, "params": {"student.width": 4}})
    assert refused.json()["type"] == "urn:bcd:stale-driver"
    shown = client.get(f"{V1}/sweeps/{sweep}").json()
    assert shown["state"] == "failed"
    assert shown["cause"] == "2 trials in a row failed with the same cause: the loss is not finite"


def test_a_search_in_which_nothing_ran_to_its_end_has_failed(client: TestClient) -> None:
    sweep = _submit(client, promote={"top": 1, "seeds": 3})
    driver = FakeDriver(client, sweep)
    end_job(client, driver.add(1, lr=0.01, width=4)["job_id"], None)
    driver.ask("POST", "/end", {})
    shown = client.get(f"{V1}/sweeps/{sweep}").json()
    assert shown["state"] == "failed"
    assert "the loss is not finite" in shown["cause"]


def test_a_driver_that_gives_up_says_why(client: TestClient, sweep: str) -> None:
    FakeDriver(client, sweep).ask("POST", "/end", {"failure": "it broke", "traceback": "..."})
    shown = client.get(f"{V1}/sweeps/{sweep}").json()
    assert (shown["state"], shown["cause"]) == ("failed", "it broke")


def test_parameters_that_make_no_spec_are_refused(client: TestClient, sweep: str) -> None:
    driver = FakeDriver(client, sweep)
    for params in ({"student.width": 5}, {"student.depth": 1}, {"schedule.optimizer.lr": -1}):
        assert driver.call("POST", "/trials", {"number": 1, "params": params}).status_code == 422
    assert client.get(f"{V1}/jobs").json()["items"] == []
