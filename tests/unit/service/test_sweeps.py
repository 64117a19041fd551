"""Sweeps over the API: accepted once, searched by a driver, repeated over seeds, extended, reported."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from bcd.spec import parse_spec
from service.models import Sweep, SweepState
from service.sweeps import repeats
from tests.helpers.api import TINY_SPEC, FakeDriver, end_job, finish, make_user, tiny_sweep

V1 = "/api/v1"


def _submit(client: TestClient, **changes: Any) -> dict[str, Any]:
    made = client.post(f"{V1}/sweeps", json=tiny_sweep(**changes))
    assert made.status_code == 201, made.text
    sweep: dict[str, Any] = made.json()
    return sweep


def _searched(client: TestClient, aps: list[float | None], **changes: Any) -> tuple[str, FakeDriver]:
    """A sweep whose driver has tried one trial for each AP (None: it failed)."""
    sweep = _submit(client, budget={"trials": len(aps)}, **changes)["id"]
    driver = FakeDriver(client, sweep)
    for number, ap in enumerate(aps, 1):
        end_job(client, driver.add(number, lr=0.01 * number, width=4 + 4 * (number % 2))["job_id"], ap)
    return sweep, driver


def _repeat(client: TestClient, sweep_id: str, ap: dict[int, list[float]]) -> None:
    """End all repeats with the AP of their number, one for each seed in order."""
    for trial in client.get(f"{V1}/sweeps/{sweep_id}/trials").json()["items"]:
        if trial["state"] == "queued":
            end_job(client, trial["job_id"], ap[trial["number"]][trial["seed"] - 1])
    with client.app.state.db.write() as session:
        assert repeats.settle(session, session.get(Sweep, sweep_id))


def test_a_sweep_is_accepted_once_for_each_key(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k"}
    first = client.post(f"{V1}/sweeps", json=tiny_sweep(), headers=headers)
    again = client.post(f"{V1}/sweeps", json=tiny_sweep(), headers=headers)
    other = client.post(f"{V1}/sweeps", json=tiny_sweep(concurrency=9), headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["Location"] == f"{V1}/sweeps/{first.json()['id']}"
    assert first.json()["state"] == "searching"
    assert first.json()["most_trials"] == 4
    assert [one["id"] for one in client.get(f"{V1}/sweeps").json()["items"]] == [first.json()["id"]]


def test_what_is_wrong_is_refused_with_pointers_and_leaves_nothing(client: TestClient) -> None:
    bad = tiny_sweep(space={"student.widht": {"type": "choice", "values": [4]}})
    refused = client.post(f"{V1}/sweeps", json=bad)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/space/student.widht"
    dry = client.post(f"{V1}/sweeps:validate", json=bad).json()
    assert (dry["ok"], dry["errors"][0]["pointer"]) == (False, "/space/student.widht")
    assert client.post(f"{V1}/sweeps:validate", json=tiny_sweep()).json() == {
        "ok": True, "errors": [], "trials": 4, "steps": 16,
    }  # fmt: skip
    absent = {**TINY_SPEC, "teacher": {"job": "job_x"}, "methods": [{"type": "bckd"}]}
    refused = client.post(f"{V1}/sweeps", json=tiny_sweep(job=absent))
    assert refused.json()["errors"][0]["pointer"] == "/job/teacher/job"
    assert client.get(f"{V1}/sweeps").json()["items"] == []
    assert client.get(f"{V1}/jobs").json()["items"] == []


def test_trials_are_jobs_with_parameters_in_their_specs(client: TestClient) -> None:
    sweep = client.post(f"{V1}/sweeps", json=tiny_sweep(), params={"priority": 7}).json()["id"]
    made = FakeDriver(client, sweep).add(1, lr=0.02, width=8)
    job = client.get(f"{V1}/jobs/{made['job_id']}").json()
    assert (job["state"], job["group"], job["name"]) == ("queued", sweep, "tiny sweep #1")
    assert job["spec"]["student"]["width"] == 8
    assert job["spec"]["schedule"]["optimizer"]["lr"] == 0.02
    assert parse_spec(job["spec"]).seed == TINY_SPEC["seed"]
    assert (job["created_by"], job["priority"]) == ("admin", 7)


def test_pages_of_sweeps_neither_repeat_nor_miss_one(client: TestClient) -> None:
    ids = [_submit(client)["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = client.get(f"{V1}/sweeps", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]
    assert client.get(f"{V1}/sweeps", params={"cursor": "x"}).status_code == 422
    assert client.get(f"{V1}/sweeps", params={"state": "paused"}).json()["items"] == []


def test_the_best_is_repeated_on_other_seeds_beside_the_default_and_ranked(client: TestClient) -> None:
    sweep, driver = _searched(client, [30.0, 50.0, None, 40.0], promote={"top": 2, "seeds": 3})
    driver.ask("POST", "/end", {})
    shown = client.get(f"{V1}/sweeps/{sweep}").json()
    assert (shown["state"], shown["jobs"]) == ("repeating", {"succeeded": 3, "failed": 1, "queued": 9})
    trials = client.get(f"{V1}/sweeps/{sweep}/trials").json()["items"]
    assert sorted((one["number"], one["seed"]) for one in trials if one["state"] == "queued") == [
        (number, seed) for number in (0, 2, 4) for seed in (1, 2, 3)
    ]
    _repeat(client, sweep, {0: [40.0, 41.0, 42.0], 2: [41.0, 40.5, 42.5], 4: [45.0, 46.2, 47.0]})
    report = client.get(f"{V1}/sweeps/{sweep}/report").json()
    assert report["sweep"]["state"] == "succeeded"
    assert report["best"] == [2, 4, 1]
    assert report["failures"] == {"the loss is not finite": 1}
    # the search's winner was lucky: over seeds another one is better
    assert [one["number"] for one in report["ranking"]] == [4, 2, 0]
    won = report["ranking"][0]
    assert (won["n"], won["search_value"], won["verdict"]) == (3, 40.0, "better")
    assert won["mean"] == pytest.approx(46.0667, abs=1e-3)
    assert won["difference"] == pytest.approx(5.0667, abs=1e-3)
    assert report["ranking"][1]["verdict"] == "no clear difference"
    assert "#4 has the best mean: AP 46.07 over 3 seeds, +5.07 against the untuned default" in report["sentence"]
    assert "better beyond noise" in report["sentence"]
    assert [(one["number"], one["best"]) for one in report["best_so_far"]] == [(1, 30.0), (2, 50.0), (4, 50.0)]
    best = client.get(f"{V1}/sweeps/{sweep}/best").json()
    assert best["schedule"]["optimizer"]["lr"] == 0.04
    assert client.post(f"{V1}/jobs", json=best).status_code == 201


def test_without_promotion_the_best_single_run_is_said_to_be_one(client: TestClient) -> None:
    sweep, driver = _searched(client, [30.0, 50.0])
    driver.ask("POST", "/end", {})
    report = client.get(f"{V1}/sweeps/{sweep}/report").json()
    assert report["sweep"]["state"] == "succeeded"
    assert report["ranking"] == []
    assert "on one seed; a single run may be luck" in report["sentence"]
    assert client.get(f"{V1}/sweeps/{sweep}/best").json()["schedule"]["optimizer"]["lr"] == 0.02


def test_a_smaller_value_is_better_where_the_objective_says_so(client: TestClient) -> None:
    sweep, driver = _searched(client, [30.0, 50.0, 40.0], objectives=[{"metric": "AP50", "mode": "min"}])
    driver.ask("POST", "/end", {})
    report = client.get(f"{V1}/sweeps/{sweep}/report").json()
    assert report["best"] == [1, 3, 2]
    assert [one["best"] for one in report["best_so_far"]] == [30.0, 30.0, 30.0]


def test_two_objectives_give_a_front(client: TestClient) -> None:
    sweep = _submit(client, objectives=[{"metric": "AP"}, {"metric": "parameters"}])["id"]
    driver = FakeDriver(client, sweep)
    for number, (ap, parameters) in enumerate([(30.0, 9.0), (40.0, 20.0), (35.0, 25.0), (20.0, 5.0)], 1):
        job = driver.add(number, lr=0.01, width=4)["job_id"]
        end_job(client, job, ap)
        with client.app.state.db.write() as session:
            from tests.helpers.jobs import add_points

            add_points(session, job, {"parameters": [(4, parameters, 1.0)]})
    driver.ask("POST", "/end", {})
    report = client.get(f"{V1}/sweeps/{sweep}/report").json()
    assert report["front"] == [2, 1, 4]
    assert report["best"] == [2, 1, 4, 3]


def test_before_anything_has_ended_there_is_no_best(client: TestClient) -> None:
    sweep = _submit(client)["id"]
    assert "No trial has begun yet" in client.get(f"{V1}/sweeps/{sweep}/report").json()["sentence"]
    FakeDriver(client, sweep).add(1, lr=0.01, width=4)
    assert "No trial has run to its end yet" in client.get(f"{V1}/sweeps/{sweep}/report").json()["sentence"]
    answer = client.get(f"{V1}/sweeps/{sweep}/best")
    assert answer.status_code == 409
    assert client.get(f"{V1}/sweeps/sweep_x/best").status_code == 404


def test_importance_names_what_separates_good_from_bad(client: TestClient) -> None:
    sweep = _submit(client, budget={"trials": 12})["id"]
    driver = FakeDriver(client, sweep)
    for number in range(1, 13):
        width = 4 if number % 2 else 8
        # lr decides, width does nothing
        end_job(client, driver.add(number, lr=0.008 * number, width=width)["job_id"], 10.0 * number)
    found = client.get(f"{V1}/sweeps/{sweep}/importance").json()
    assert [one["path"] for one in found["items"]] == ["schedule.optimizer.lr", "student.width"]
    first = found["items"][0]
    assert first["value"] > 0.8
    assert first["low"] <= first["value"] <= first["high"] + 1e-9
    assert found["note"] is None


def test_few_trials_say_nothing_about_importance(client: TestClient) -> None:
    sweep, _ = _searched(client, [1.0, 2.0])
    found = client.get(f"{V1}/sweeps/{sweep}/importance").json()
    assert found["items"] == []
    assert "it takes 8 trials" in found["note"]


def test_pause_and_resume_reach_the_jobs(client: TestClient) -> None:
    sweep = _submit(client)["id"]
    job = FakeDriver(client, sweep).add(1, lr=0.01, width=4)["job_id"]
    for _ in range(2):
        assert client.post(f"{V1}/sweeps/{sweep}/pause").json()["state"] == "paused"
    assert client.get(f"{V1}/jobs/{job}").json()["state"] == "paused"
    for _ in range(2):
        assert client.post(f"{V1}/sweeps/{sweep}/resume").json()["state"] == "searching"
    assert client.get(f"{V1}/jobs/{job}").json()["state"] == "queued"
    assert FakeDriver(client, sweep).ask("GET", "/ticket")["trials"][0]["number"] == 1


def test_a_sweep_whose_jobs_still_pause_is_not_resumed(client: TestClient) -> None:
    from tests.helpers.api import FakeWorker, claim

    sweep = _submit(client)["id"]
    job = FakeDriver(client, sweep).add(1, lr=0.01, width=4)["job_id"]
    worker = FakeWorker(client, *claim(client, job))
    worker.send(worker.running())
    client.post(f"{V1}/sweeps/{sweep}/pause")
    refused = client.post(f"{V1}/sweeps/{sweep}/resume")
    assert refused.status_code == 409
    assert "still pausing" in refused.json()["detail"]
    worker.send(worker.ended("cancelled"))
    assert client.post(f"{V1}/sweeps/{sweep}/resume").json()["state"] == "searching"


def test_stop_cancels_what_has_not_ended_and_keeps_what_was_found(client: TestClient) -> None:
    sweep, driver = _searched(client, [30.0])
    client.post(f"{V1}/sweeps/{sweep}/extend", json={"budget": {"trials": 3}})
    job = driver.add(2, lr=0.05, width=4)["job_id"]
    for _ in range(2):
        assert client.post(f"{V1}/sweeps/{sweep}/stop").json()["state"] == "stopped"
    assert client.get(f"{V1}/jobs/{job}").json()["state"] == "cancelled"
    assert client.get(f"{V1}/sweeps/{sweep}/report").json()["best"] == [1]
    assert client.post(f"{V1}/sweeps/{sweep}/pause").status_code == 409
    assert driver.call("POST", "/beat").status_code == 409


def test_an_ended_sweep_is_extended_and_knows_what_it_knew(client: TestClient) -> None:
    sweep, driver = _searched(client, [30.0, 50.0])
    driver.ask("POST", "/end", {})
    assert client.get(f"{V1}/sweeps/{sweep}").json()["state"] == "succeeded"
    assert client.post(f"{V1}/sweeps/{sweep}/stop").status_code == 409
    fewer = client.post(f"{V1}/sweeps/{sweep}/extend", json={"budget": {"trials": 1}})
    assert (fewer.status_code, fewer.json()["errors"][0]["pointer"]) == (422, "/budget/trials")
    assert client.post(f"{V1}/sweeps/{sweep}/extend", json={}).status_code == 422
    extended = client.post(f"{V1}/sweeps/{sweep}/extend", json={"budget": {"trials": 3}}).json()
    assert (extended["state"], extended["most_trials"], extended["ended_at"]) == ("searching", 3, None)
    driver = FakeDriver(client, sweep)
    ticket = driver.ask("GET", "/ticket")
    assert [(one["number"], one["values"]) for one in ticket["trials"]] == [(1, [30.0]), (2, [50.0])]
    end_job(client, driver.add(3, lr=0.05, width=4)["job_id"], 60.0)
    driver.ask("POST", "/end", {})
    assert client.get(f"{V1}/sweeps/{sweep}/report").json()["best"] == [3, 2, 1]


def test_who_may_only_look_changes_nothing(client: TestClient) -> None:
    sweep = _submit(client)["id"]
    viewer = {"Authorization": f"Bearer {make_user(client, 'vic', 'viewer')}"}
    assert client.get(f"{V1}/sweeps/{sweep}", headers=viewer).status_code == 200
    for verb in ("pause", "resume", "stop"):
        assert client.post(f"{V1}/sweeps/{sweep}/{verb}", headers=viewer).status_code == 403


def test_a_sweep_over_a_teacher_that_is_a_job(client: TestClient) -> None:
    teacher = finish(client, {**TINY_SPEC, "name": "teacher"}, 50.0)
    job = {**TINY_SPEC, "teacher": {"job": teacher}, "methods": [{"type": "bckd"}]}
    space = {"methods.0.loc_weight": {"type": "choice", "values": [0, 4]}}
    sweep = _submit(client, job=job, space=space, search={"type": "grid"}, budget={})
    assert sweep["most_trials"] == 2
    driver = FakeDriver(client, sweep["id"])
    made = driver.ask("POST", "/trials", {"number": 1, "params": {"methods.0.loc_weight": 0}})
    assert client.get(f"{V1}/jobs/{made['job_id']}").json()["teacher_job_id"] == teacher


def test_states_are_those_of_the_model() -> None:
    schema = {state.value for state in SweepState}
    assert schema == {"searching", "repeating", "paused", "succeeded", "failed", "stopped"}
