"""ETags: the same question again is 304 until something happened, and never after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from httpx import Response
from starlette.testclient import TestClient

from service.conditional import LIST_SECONDS
from tests.helpers.api import finish, start, submit, tiny_spec

Ask = Callable[..., Response]


@pytest.fixture(autouse=True)
def _a_clock_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are looked at anew every few seconds; not while a test compares two answers."""
    monkeypatch.setattr("service.conditional.time.time", lambda: 1000.0 * LIST_SECONDS)


def questions(job_id: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    runs = {"runs": [job_id], "metrics": ["AP"]}
    return {
        "list": ("GET", "/api/v1/jobs?metrics=AP", {}),
        "count": ("GET", "/api/v1/jobs:count", {}),
        "job": ("GET", f"/api/v1/jobs/{job_id}", {}),
        "curves": ("POST", "/api/v1/series:query", {"json": runs}),
        "table": ("POST", "/api/v1/series:table", {"json": runs}),
        "compare": ("GET", f"/api/v1/compare?ids={job_id}", {}),
    }


def asked(client: TestClient, what: tuple[str, str, dict[str, Any]], **headers: str) -> Response:
    method, path, more = what
    return client.request(method, path, headers=headers, **more)


@pytest.mark.parametrize("name", ["list", "count", "job", "curves", "table", "compare"])
def test_what_a_client_has_is_304_until_something_happens_to_it(client: TestClient, name: str) -> None:
    job, worker = start(client)
    what = questions(job["id"])[name]
    first = asked(client, what)
    tag = first.headers["ETag"]
    assert first.status_code == 200
    assert tag.startswith('W/"')
    again = asked(client, what, **{"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert asked(client, what, **{"If-None-Match": '"other"'}).json() == first.json()
    for records in ([worker.metric(1, AP=1.0)], [worker.evaluation(3.0), worker.ended("succeeded")]):
        worker.send(*records)
        new = asked(client, what, **{"If-None-Match": tag})
        assert new.status_code == 200
        tag = new.headers["ETag"]
        assert asked(client, what, **{"If-None-Match": tag}).status_code == 304


def test_what_happens_to_other_jobs_is_no_news_of_this_one_but_of_the_list(client: TestClient) -> None:
    job_id = finish(client, tiny_spec(), 10.0)
    tags = {name: asked(client, what).headers["ETag"] for name, what in questions(job_id).items()}
    submit(client)
    for name, what in questions(job_id).items():
        again = asked(client, what, **{"If-None-Match": tags[name]})
        assert again.status_code == (200 if name in ("list", "count") else 304), name


def test_a_points_second_value_is_news(client: TestClient) -> None:
    """A new attempt writes over what the one before reported: last step and count stay the same."""
    job, worker = start(client)
    worker.send(worker.metric(1, AP=1.0), worker.metric(2, AP=2.0))
    what = questions(job["id"])["curves"]
    tag = asked(client, what).headers["ETag"]
    worker.send(worker.metric(1, AP=7.0))
    new = asked(client, what, **{"If-None-Match": tag})
    assert (new.status_code, new.json()["lines"][0]["last"]) == (200, [7.0, 2.0])


def test_another_question_or_another_caller_has_another_tag(client: TestClient) -> None:
    job_id = submit(client)["id"]
    tag = client.get("/api/v1/jobs").headers["ETag"]
    for path in ("/api/v1/jobs?limit=10", "/api/v1/jobs?filter=tag:x", "/api/v1/jobs:count", f"/api/v1/jobs/{job_id}"):
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 200
    assert client.get("/api/v1/jobs", headers={"If-None-Match": tag, "Authorization": "Bearer x"}).status_code == 401


def test_a_list_is_looked_at_anew_after_a_while(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why a job waits changes without an event."""
    tag = client.get("/api/v1/jobs").headers["ETag"]
    assert client.get("/api/v1/jobs", headers={"If-None-Match": tag}).status_code == 304
    monkeypatch.setattr("service.conditional.time.time", lambda: 1001.0 * LIST_SECONDS)
    assert client.get("/api/v1/jobs", headers={"If-None-Match": tag}).status_code == 200
