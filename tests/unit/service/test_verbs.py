"""What people do to a job: cancel, pause, resume, change; who may, when, and what is written down of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.errors import Problem
from service.jobs import verbs
from service.models import TERMINAL, Job, JobState, Role
from tests.helpers.api import ROOT, FakeWorker, claim, distilled_spec, finish, start, submit, tiny_spec

JOBS = "/api/v1/jobs"
VERBS = ("cancel", "pause", "resume")
# What each verb makes of a job in each state; None: refused with 409. A job that waits has an unfinished teacher.
TABLE: dict[str, dict[str, str | None]] = {
    "cancel": {
        "waiting": "cancelled", "queued": "cancelled", "starting": "cancelling", "running": "cancelling",
        "pausing": "cancelling", "paused": "cancelled", "cancelling": "cancelling", "cancelled": "cancelled",
        "succeeded": None, "failed": None,
    },
    "pause": {
        "waiting": "paused", "queued": "paused", "starting": "pausing", "running": "pausing", "pausing": "pausing",
        "paused": "paused", "cancelling": None, "cancelled": None, "succeeded": None, "failed": None,
    },
    "resume": {
        "waiting": "waiting", "queued": "queued", "starting": "starting", "running": "running", "pausing": None,
        "paused": "queued", "cancelling": None, "cancelled": None, "succeeded": None, "failed": None,
    },
}  # fmt: skip


def do(client: TestClient, job_id: str, verb: str) -> Any:
    return client.post(f"{JOBS}/{job_id}/{verb}")


def state(client: TestClient, job_id: str) -> str:
    return str(client.get(f"{JOBS}/{job_id}").json()["state"])


def history(client: TestClient, job_id: str, **params: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"{JOBS}/{job_id}/events", params=params).json()["items"]
    return items


@pytest.mark.parametrize("now", list(JobState))
@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_in_each_state(client: TestClient, verb: str, now: JobState) -> None:
    job_id = submit(client)["id"]
    with client.app.state.db.write() as session:
        session.get_one(Job, job_id).state = now.value
    before, to = len(history(client, job_id)), TABLE[verb][now]
    for _ in range(2):
        response = do(client, job_id, verb)
        assert response.status_code == (409 if to is None else 200), response.text
        assert state(client, job_id) == (now if to is None else to)
    events = history(client, job_id)[before:]
    if to is None or to == now:
        assert events == []
    else:
        (event,) = events  # the second time changed nothing
        assert (event["type"], event["actor"], event["data"]["by"]) == ("job.state", "user", "admin")
        assert (event["data"]["from"], event["data"]["to"]) == (now, to)


# ------------------------------------------------------------------------------------------------ pause and resume


def test_a_running_job_pauses_through_its_worker_and_goes_on_from_its_checkpoint(client: TestClient) -> None:
    job, worker = start(client)
    assert do(client, job["id"], "pause").json()["state"] == "pausing"
    assert worker.send()["cancel"] is True
    worker.send(worker.artifact("checkpoint", "step-2", 2, b"two"), worker.ended("cancelled"))
    assert state(client, job["id"]) == "paused"
    assert do(client, job["id"], "resume").json()["state"] == "queued"
    second = FakeWorker(client, *claim(client, job["id"]))
    assert [one["step"] for one in second.ticket().json()["resume"]] == [2]
    assert second.send(second.running())["cancel"] is False


def test_a_paused_job_that_is_cancelled_while_its_worker_stops_is_cancelled(client: TestClient) -> None:
    job, worker = start(client)
    do(client, job["id"], "pause")
    do(client, job["id"], "cancel")
    worker.send(worker.ended("cancelled"))
    assert state(client, job["id"]) == "cancelled"
    assert do(client, job["id"], "resume").status_code == 409


@pytest.mark.parametrize(("end", "then"), [(None, "waiting"), ("succeeded", "queued"), ("failed", "failed")])
def test_a_job_resumes_to_where_it_belongs_by_what_it_needs(client: TestClient, end: str | None, then: str) -> None:
    teacher, worker = start(client)
    student = submit(client, distilled_spec(teacher["id"]))["id"]
    do(client, student, "pause")
    if end is not None:
        worker.send(worker.ended(end, cause="disk full"))
    assert state(client, student) == "paused"
    resumed = do(client, student, "resume").json()
    assert resumed["state"] == then
    if end == "failed":
        assert "disk full" in resumed["cause"]
    elif end is None:
        worker.send(worker.ended("succeeded"))
        assert state(client, student) == "queued"


def test_who_waits_for_a_paused_job_keeps_waiting(client: TestClient) -> None:
    teacher = submit(client)["id"]
    student = submit(client, distilled_spec(teacher))["id"]
    do(client, teacher, "pause")
    late = submit(client, distilled_spec(teacher))
    assert (state(client, student), late["state"]) == ("waiting", "waiting")


# ----------------------------------------------------------------------------------------- priority, tags, group


def change(client: TestClient, job_id: str, **body: Any) -> Any:
    return client.patch(f"{JOBS}/{job_id}", json=body)


def test_what_may_change_changes_and_the_rest_stays(client: TestClient) -> None:
    job_id = submit(client)["id"]
    changed = change(client, job_id, priority=5, tags=["b", "a"]).json()
    assert (changed["priority"], changed["tags"], changed["group"]) == (5, ["a", "b"], None)
    changed = change(client, job_id, group="g").json()
    assert (changed["priority"], changed["tags"], changed["group"]) == (5, ["a", "b"], "g")
    changed = change(client, job_id, group=None, tags=[]).json()
    assert (changed["priority"], changed["tags"], changed["group"]) == (5, [], None)
    first, *_, last = history(client, job_id, type="job.changed")
    assert first["data"] == {
        "by": "admin",
        "from": {"priority": 0, "tags": []},
        "to": {"priority": 5, "tags": ["a", "b"]},
    }
    assert last["data"]["to"] == {"group": None, "tags": []}


def test_a_change_to_what_is_already_so_is_no_change(client: TestClient) -> None:
    job_id = submit(client)["id"]
    assert change(client, job_id, priority=0, tags=[], group=None).status_code == 200
    assert change(client, job_id).status_code == 200
    assert len(history(client, job_id)) == 1


def test_an_ended_job_still_gets_tags_and_a_group_but_no_priority(client: TestClient) -> None:
    job_id = finish(client, tiny_spec(), 1.0)
    assert change(client, job_id, tags=["best"], group="g").json()["tags"] == ["best"]
    assert change(client, job_id, priority=9).status_code == 409
    assert change(client, job_id, priority=9, tags=["other"]).status_code == 409
    assert client.get(f"{JOBS}/{job_id}").json()["tags"] == ["best"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"priority": 1000}, "/priority"),
        ({"tags": ["ok", "no way"]}, "/tags/1"),
        ({"tags": ["x"] * 21}, "/tags"),
        ({"group": "a\u0007"}, "/group"),
        ({"state": "succeeded"}, "/state"),
        ([], ""),
    ],
)
def test_a_bad_change_is_named_by_its_pointer(client: TestClient, body: Any, pointer: str) -> None:
    job_id = submit(client)["id"]
    response = client.patch(f"{JOBS}/{job_id}", json=body)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)


# ------------------------------------------------------------------------------------------------------ who may


@pytest.mark.parametrize("verb", [*VERBS, "change"])
def test_verbs_take_an_editor_and_hide_what_the_caller_may_not_see(client: TestClient, verb: str) -> None:
    job_id = submit(client)["id"]

    def call(role: Role | None) -> str:
        me = replace(ROOT, is_admin=False, roles={} if role is None else {"default": role})
        with client.app.state.db.write() as session:
            if verb == "change":
                return verbs.change(session, me, job_id, verbs.Change(priority=1)).state
            return str(getattr(verbs, verb)(session, me, job_id).state)

    for role, status in ((None, 404), (Role.VIEWER, 403)):
        with pytest.raises(Problem) as caught:
            call(role)
        assert caught.value.status == status
    assert state(client, job_id) == "queued"
    assert call(Role.EDITOR)


# ---------------------------------------------------------------------------------------------------- the history


def test_the_history_is_paged_and_can_be_limited_to_types(client: TestClient) -> None:
    job, worker = start(client)
    other = submit(client)["id"]
    worker.send(*(worker.metric(step, loss=1.0) for step in range(3)))
    worker.send(worker.ended("succeeded"))
    whole = history(client, job["id"])
    assert [event["type"] for event in whole] == ["job.state"] * 3 + ["job.metrics", "job.state"]
    assert {event["job_id"] for event in whole} == {job["id"]}
    seen, after = [], 0
    while True:
        page = client.get(f"{JOBS}/{job['id']}/events", params={"limit": 2, "after": after}).json()
        seen += page["items"]
        if not page["items"]:
            break
        after = page["next"]
    assert seen == whole
    assert len(history(client, job["id"], type=["job.metrics", "job.artifact"])) == 1
    assert [event["data"]["to"] for event in history(client, other)] == ["queued"]
    assert client.get(f"{JOBS}/nope/events").status_code == 404


def test_no_verb_changes_a_terminal_state(client: TestClient) -> None:
    job_id = submit(client)["id"]
    for terminal in sorted(TERMINAL):
        with client.app.state.db.write() as session:
            session.get_one(Job, job_id).state = terminal.value
        for verb in VERBS:
            do(client, job_id, verb)
            assert state(client, job_id) == terminal
