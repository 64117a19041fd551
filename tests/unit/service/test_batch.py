"""One verb for many jobs: an outcome for each, and what is refused for one leaves the rest alone."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.jobs import batch as batches
from tests.helpers.api import finish, start, submit, tiny_spec

JOBS = "/api/v1/jobs"


def batch(client: TestClient, verb: str, ids: list[str], *, key: str | None = None, **more: Any) -> Any:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return client.post("/api/v1/jobs:batch", json={"verb": verb, "ids": ids, **more}, headers=headers)


def outcomes(response: Any) -> list[tuple[str, str | int]]:
    assert response.status_code == 200, response.text
    return [(one["id"], one["state"] or one["problem"]["status"]) for one in response.json()["items"]]


def test_each_job_has_its_own_outcome_in_the_order_given(client: TestClient) -> None:
    queued, done = submit(client)["id"], finish(client, tiny_spec(), 1.0)
    running, _ = start(client)
    answer = batch(client, "cancel", [queued, done, "job_nope", running["id"], queued])
    assert outcomes(answer) == [(queued, "cancelled"), (done, 409), ("job_nope", 404), (running["id"], "cancelling")]
    assert "already succeeded" in answer.json()["items"][1]["problem"]["detail"]
    assert client.get(f"{JOBS}/{queued}").json()["state"] == "cancelled"


def test_pause_and_resume_of_many(client: TestClient) -> None:
    ids = [submit(client)["id"] for _ in range(3)]
    assert outcomes(batch(client, "pause", ids)) == [(id, "paused") for id in ids]
    assert outcomes(batch(client, "resume", ids)) == [(id, "queued") for id in ids]


def test_a_retry_of_many_names_the_new_jobs_and_a_key_makes_each_once(client: TestClient) -> None:
    ids = [submit(client)["id"] for _ in range(2)]
    batch(client, "cancel", ids)
    first = batch(client, "retry", ids, key="k").json()["items"]
    assert [(one["id"], one["state"]) for one in first] == [(id, "queued") for id in ids]
    for one in first:
        made = client.get(f"{JOBS}/{one['job_id']}").json()
        assert (made["parent_id"], made["origin"]) == (one["id"], "retry")
    assert batch(client, "retry", ids, key="k").json()["items"] == first
    assert batch(client, "retry", ids).json()["items"] != first


def test_tags_are_added_and_removed_and_priorities_set(client: TestClient) -> None:
    one = client.post(JOBS, json=tiny_spec(), params={"tag": ["a", "b"]}).json()["id"]
    two, done = submit(client)["id"], finish(client, tiny_spec(), 1.0)
    answer = batch(client, "change", [one, two, done], add_tags=["c"], remove_tags=["a"], priority=3, group="g")
    assert outcomes(answer) == [(one, "queued"), (two, "queued"), (done, 409)]
    shown = [client.get(f"{JOBS}/{id}").json() for id in (one, two, done)]
    assert [job["tags"] for job in shown] == [["b", "c"], ["c"], []]
    assert [(job["priority"], job["group"]) for job in shown] == [(3, "g"), (3, "g"), (0, None)]


def test_more_tags_than_a_job_may_have_are_refused_for_that_job(client: TestClient) -> None:
    full = client.post(JOBS, json=tiny_spec(), params={"tag": [f"t{i}" for i in range(20)]}).json()["id"]
    other = submit(client)["id"]
    assert outcomes(batch(client, "change", [full, other], add_tags=["one.more"])) == [(full, 422), (other, "queued")]


def test_a_filter_finds_the_jobs_that_are_meant(client: TestClient) -> None:
    ids = [client.post(JOBS, json=tiny_spec(), params={"tag": "night"}).json()["id"] for _ in range(2)]
    other = submit(client)["id"]
    answer = client.post("/api/v1/jobs:batch", json={"verb": "cancel", "filter": "tag:night state:queued"})
    assert outcomes(answer) == [(id, "cancelled") for id in ids]
    assert client.get(f"{JOBS}/{other}").json()["state"] == "queued"
    nothing = client.post("/api/v1/jobs:batch", json={"verb": "cancel", "filter": "tag:day"})
    assert outcomes(nothing) == []


def test_a_filter_that_finds_too_many_changes_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST", 2)
    ids = [submit(client)["id"] for _ in range(3)]
    refused = client.post("/api/v1/jobs:batch", json={"verb": "cancel", "filter": "state:queued"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/filter")
    assert {client.get(f"{JOBS}/{id}").json()["state"] for id in ids} == {"queued"}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"verb": "explode", "ids": ["a"]}, "/verb"),
        ({"verb": "cancel", "ids": []}, ""),
        ({"verb": "cancel"}, ""),
        ({"verb": "cancel", "ids": ["a"], "filter": "state:queued"}, ""),
        ({"verb": "cancel", "filter": "state:"}, "/filter"),
        ({"verb": "cancel", "filter": " "}, ""),
        ({"verb": "cancel", "ids": ["a"] * 501}, "/ids"),
        ({"verb": "cancel", "ids": ["a"], "priority": 1}, ""),
        ({"verb": "change", "ids": ["a"]}, ""),
        ({"verb": "pause", "ids": ["a"], "from_start": True}, ""),
        ({"verb": "change", "ids": ["a"], "add_tags": ["no way"]}, "/add_tags/0"),
        ({"verb": "cancel", "ids": ["a"], "force": True}, "/force"),
    ],
)
def test_a_batch_that_makes_no_sense_is_refused_whole(client: TestClient, body: Any, pointer: str) -> None:
    response = client.post("/api/v1/jobs:batch", json=body)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
