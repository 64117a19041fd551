"""What a submission says beside the spec: project, priority, tags, group, retries, and jobs that must come first."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from bcd.spec import parse_spec
from service.errors import Problem
from service.jobs.options import Options
from service.jobs.service import submit as submit_here
from service.models import Event, Job, Project, Role
from tests.helpers.api import ROOT, FakeWorker, claim, distilled_spec, finish, start, submit, tiny_spec

JOBS = "/api/v1/jobs"
STORM = int(os.environ.get("BCD_STORM", "200"))


def post(client: TestClient, spec: dict[str, Any] | None = None, *, key: str | None = None, **options: Any) -> Any:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return client.post(JOBS, json=spec or tiny_spec(), params=options, headers=headers)


def test_a_job_remembers_its_options(client: TestClient) -> None:
    job = post(client, priority=7, tag=["night", "a:b", "night"], group="sweep 3", retries=2).json()
    assert (job["project"], job["priority"], job["tags"]) == ("default", 7, ["a:b", "night"])
    assert (job["group"], job["retries"], job["created_by"]) == ("sweep 3", 2, "admin")
    assert (job["needs"], job["parent_id"], job["origin"], job["wait_reason"]) == ([], None, None, None)
    assert client.get(f"{JOBS}/{job['id']}").json() == job
    plain = submit(client)
    assert (plain["priority"], plain["tags"], plain["group"], plain["retries"]) == (0, [], None, 0)


@pytest.mark.parametrize(
    ("option", "value", "pointer"),
    [
        ("priority", 101, "?priority"),
        ("priority", "high", "?priority"),
        ("tag", "two words", "?tag.0"),
        ("tag", "x" * 51, "?tag.0"),
        ("tag", [f"t{i}" for i in range(21)], "?tag"),
        ("group", "", "?group"),
        ("group", "a\nb", "?group"),
        ("group", "x" * 101, "?group"),
        ("retries", 11, "?retries"),
        ("retries", -1, "?retries"),
        ("after", [f"job_{i}" for i in range(51)], "?after"),
        ("prioritee", 1, "?prioritee"),
    ],
)
def test_an_option_that_is_not_allowed_is_named(client: TestClient, option: str, value: Any, pointer: str) -> None:
    response = post(client, **{option: value})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
    assert client.get(JOBS).json()["items"] == []


def test_a_project_that_is_not_there_is_404_and_another_one_takes_the_job(client: TestClient) -> None:
    assert post(client, project="nope").status_code == 404
    with client.app.state.db.write() as session:
        session.add(Project(id="cells", created_at=0.0))
    assert post(client, project="cells").json()["project"] == "cells"


# ------------------------------------------------------------------------------------------- jobs that come first


def test_a_job_waits_until_all_that_it_names_have_succeeded(client: TestClient) -> None:
    (first, one), (second, two) = start(client), start(client)
    job = post(client, after=[first["id"], second["id"], first["id"]]).json()
    assert (job["state"], job["needs"]) == ("waiting", sorted([first["id"], second["id"]]))
    one.send(one.ended("succeeded"))
    assert client.get(f"{JOBS}/{job['id']}").json()["state"] == "waiting"
    two.send(two.ended("succeeded"))
    assert client.get(f"{JOBS}/{job['id']}").json()["state"] == "queued"
    assert post(client, after=first["id"]).json()["state"] == "queued"


def test_a_teacher_counts_among_the_jobs_that_come_first(client: TestClient) -> None:
    teacher, other = submit(client)["id"], submit(client)["id"]
    job = post(client, distilled_spec(teacher), after=[other, teacher]).json()
    assert (job["state"], job["needs"], job["teacher_job_id"]) == ("waiting", sorted([teacher, other]), teacher)


def test_a_job_fails_with_the_cause_when_one_that_it_needs_fails(client: TestClient) -> None:
    needed, worker = start(client)
    job = post(client, after=needed["id"]).json()["id"]
    behind = post(client, after=job).json()["id"]
    worker.send(worker.ended("failed", cause="no such folder"))
    for one, named in ((job, needed["id"]), (behind, job)):
        shown = client.get(f"{JOBS}/{one}").json()
        assert shown["state"] == "failed"
        assert named in shown["cause"]
        assert "no such folder" in shown["cause"]


def test_a_job_that_cannot_succeed_any_more_is_refused_as_one_that_comes_first(client: TestClient) -> None:
    cancelled, (running, _) = submit(client)["id"], start(client)
    client.post(f"{JOBS}/{cancelled}/cancel")
    client.post(f"{JOBS}/{running['id']}/cancel")
    for name, word in ((cancelled, "cancelled"), (running["id"], "cancelling"), ("job_nope", "no job")):
        response = post(client, after=name)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "?after")
        assert word in response.json()["detail"]


def test_jobs_that_the_caller_may_not_see_are_not_there(client: TestClient) -> None:
    with client.app.state.db.write() as session:
        session.add(Project(id="cells", created_at=0.0))
    hidden = submit(client)["id"]
    me = replace(ROOT, is_admin=False, roles={"cells": Role.EDITOR})
    for spec, options in (
        (tiny_spec(), Options(project="cells", after=(hidden,))),
        (distilled_spec(hidden), Options(project="cells")),
    ):
        with pytest.raises(Problem) as caught:
            submit_here(client.app.state.db, me, spec, options)
        assert (caught.value.status, f"no job '{hidden}'" in caught.value.detail) == (422, True)


# ------------------------------------------------------------------------------------------------- the same again


def test_the_same_key_means_the_same_spec_and_the_same_options(client: TestClient) -> None:
    other = finish(client, tiny_spec(), 1.0)
    options: dict[str, Any] = {"priority": 3, "tag": ["b", "a"], "after": [other], "group": "g", "retries": 1}
    first = post(client, key="k", **options)
    again = post(client, key="k", **{**options, "tag": ["a", "b", "a"]})
    assert (first.status_code, again.status_code, again.json()) == (201, 200, first.json())
    for name in options:
        changed = {key: value for key, value in options.items() if key != name}
        assert post(client, key="k", **changed).status_code == 409, name


def test_a_plain_submission_is_known_by_the_digest_of_its_spec_alone(client: TestClient) -> None:
    """What older versions stored stays valid."""
    job = post(client, key="k").json()
    with client.app.state.db.read() as session:
        assert session.get_one(Job, job["id"]).request_hash == parse_spec(tiny_spec()).digest()
    assert post(client, key="k", priority=0, retries=0, project="default").status_code == 200


def test_each_project_has_its_own_keys(client: TestClient) -> None:
    with client.app.state.db.write() as session:
        session.add(Project(id="cells", created_at=0.0))
    assert post(client, key="k").json()["id"] != post(client, key="k", project="cells").json()["id"]


def test_equal_submissions_at_once_make_one_job(client: TestClient) -> None:
    done = finish(client, tiny_spec(), 1.0)
    with client.app.state.db.read() as session:
        before = session.scalar(select(func.count()).select_from(Event))

    def send(_: int) -> tuple[int, str]:
        response = post(client, distilled_spec(done), key="storm", tag=["x"], priority=1)
        return response.status_code, response.json().get("id", response.text)

    with ThreadPoolExecutor(min(STORM, 100)) as pool:
        answers = list(pool.map(send, range(STORM)))
    assert sorted(status for status, _ in answers) == [200] * (STORM - 1) + [201]
    assert len({id for _, id in answers}) == 1
    with client.app.state.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 2
        assert session.scalar(select(func.count()).select_from(Event)) == before + 1


def test_submissions_race_with_the_end_of_what_they_need_and_none_is_forgotten(client: TestClient) -> None:
    """Whoever comes first, nobody waits for a job that has ended."""
    for end in ("succeeded", "failed"):
        needed, worker = start(client)
        with ThreadPoolExecutor(9) as pool:
            sent = [pool.submit(post, client, after=needed["id"]) for _ in range(8)]
            worker.send(worker.ended(end, cause="x" if end == "failed" else None))
            answers = [one.result() for one in sent]
        for answer in answers:
            if answer.status_code == 201:
                state = client.get(f"{JOBS}/{answer.json()['id']}").json()["state"]
                assert state == ("queued" if end == "succeeded" else "failed")
            else:
                assert (answer.status_code, end) == (422, "failed")


def test_a_claimed_job_keeps_its_retries_for_its_own_failures(client: TestClient) -> None:
    job = post(client, retries=1).json()
    for state in ("queued", "failed"):
        worker = FakeWorker(client, *claim(client, job["id"]))
        worker.send(worker.running(), worker.ended("failed", cause="loss is not finite"))
        now = client.get(f"{JOBS}/{job['id']}").json()
        assert now["state"] == state
    assert [attempt["cause_type"] for attempt in now["attempts"]] == ["job", "job"]
