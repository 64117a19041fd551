"""A dry run says all that a submission would: what runs, what it costs, where it stands, and what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from bcd.spec import parse_spec
from service.models import Event, Job, Node, Project
from tests.helpers.api import claim, distilled_spec, start, submit, tiny_spec

JOBS = "/api/v1/jobs"


def dry(client: TestClient, spec: Any = None, **options: Any) -> dict[str, Any]:
    response = client.post("/api/v1/jobs:validate", json=tiny_spec() if spec is None else spec, params=options)
    assert response.status_code == 200, response.text
    verdict: dict[str, Any] = response.json()
    return verdict


def add_node(client: TestClient, name: str, **has: float) -> None:
    with client.app.state.db.write() as session:
        session.add(
            Node(**{"id": name, "name": name, "alive": True, "cpus": 4, "gpus": 0, "memory": 16, "seen_at": 0.0, **has})
        )


def test_a_sound_spec_is_planned_and_nothing_is_stored(client: TestClient) -> None:
    verdict = dry(client)
    spec = parse_spec(tiny_spec())
    assert (verdict["ok"], verdict["errors"], verdict["warnings"]) == (True, [], [])
    plan = verdict["plan"]
    assert (plan["steps"], plan["epochs"], plan["detector"], plan["state"]) == (4, 1.0, "gfl-tiny-4", "queued")
    assert (plan["methods"], plan["teacher"], plan["pair"], plan["needs"]) == ([], None, None, [])
    assert (plan["resources"], plan["digest"]) == (spec.canonical()["resources"], spec.digest())
    with client.app.state.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
        assert session.scalar(select(func.count()).select_from(Event)) == 0


def test_what_submit_would_refuse_is_told_the_same_way(client: TestClient) -> None:
    atss = submit(client, tiny_spec(student={**tiny_spec()["student"], "detector": "atss"}))["id"]
    cases: list[tuple[Any, dict[str, Any]]] = [
        (tiny_spec(colour="red", seed=-1), {}),
        ({**distilled_spec(atss), "methods": [{"type": "bckd"}, {"type": "ld"}]}, {}),
        (distilled_spec("job_nope"), {}),
        (tiny_spec(), {"after": ["job_nope"]}),
        ([], {}),
    ]
    for spec, options in cases:
        refused = client.post(JOBS, json=spec, params=options)
        verdict = dry(client, spec, **options)
        assert (refused.status_code, verdict["ok"]) == (422, False)
        assert verdict["errors"] == refused.json()["errors"]


def test_the_plan_of_a_distillation_names_teacher_methods_and_what_they_read(client: TestClient) -> None:
    teacher = submit(client)["id"]
    spec = {**distilled_spec(teacher), "methods": [{"type": "bckd"}, {"type": "ld"}]}
    plan = dry(client, spec)["plan"]
    assert plan["methods"] == [
        {"type": "bckd", "needs": ["boxes", "scores"]},
        {"type": "ld", "needs": ["distributions"]},
    ]
    assert plan["teacher"] == {"job_id": teacher, "path": None, "state": "queued", "detector": "gfl-tiny-4"}
    assert (plan["pair"], plan["state"], plan["needs"]) == ("ok", "waiting", [teacher])


def test_what_only_a_worker_can_see_is_warned_about(client: TestClient) -> None:
    files = {"type": "voc", "root": "/data", "classes": ["a"]}
    spec = tiny_spec(data=files, teacher={"path": "/t", "preflight": "off"}, methods=[{"type": "bckd"}])
    verdict = dry(client, spec)
    assert verdict["ok"]
    assert verdict["plan"]["teacher"]["path"] == "/t"
    assert verdict["plan"]["pair"] is None
    words = " ".join(verdict["warnings"])
    assert all(word in words for word in ("teacher is a file", "data set is a folder", "preflight"))


def test_a_job_that_would_wait_for_a_paused_one_is_warned(client: TestClient) -> None:
    needed = submit(client)["id"]
    client.post(f"{JOBS}/{needed}/pause")
    assert needed in dry(client, after=needed)["warnings"][0]


# --------------------------------------------------------------------------------------------------------- cost


def ran(client: TestClient, seconds: float, spec: dict[str, Any] | None = None) -> str:
    """A finished job of 4 steps that ran for so long."""
    job, worker = start(client, spec)
    worker.send(worker.metric(4, loss=1.0), worker.ended("succeeded"))
    with client.app.state.db.write() as session:
        row = session.get_one(Job, job["id"])
        row.ended_at = row.started_at + seconds
    return str(job["id"])


def test_the_cost_is_the_median_of_finished_jobs_like_it(client: TestClient) -> None:
    assert dry(client)["cost"]["seconds"] is None
    assert "no finished job" in dry(client)["cost"]["basis"]
    for seconds in (8.0, 12.0, 400.0):
        ran(client, seconds)
    longer = tiny_spec(schedule={**tiny_spec()["schedule"], "steps": 40})
    cost = dry(client, longer)["cost"]
    assert cost["seconds"] == pytest.approx(120.0)
    assert "3 finished jobs" in cost["basis"]
    for other in (
        tiny_spec(schedule={**tiny_spec()["schedule"], "batch_size": 4}),
        tiny_spec(resources={"cpus": 2}),
        tiny_spec(data={**tiny_spec()["data"], "image_size": 96}),
        tiny_spec(student={**tiny_spec()["student"], "width": 8}),
    ):
        assert dry(client, other)["cost"]["seconds"] is None


def test_runs_of_the_same_methods_are_asked_first(client: TestClient) -> None:
    teacher = ran(client, 8.0)
    assert "other methods" in dry(client, distilled_spec(teacher))["cost"]["basis"]
    assert dry(client, distilled_spec(teacher))["cost"]["seconds"] == pytest.approx(8.0)
    ran(client, 16.0, distilled_spec(teacher))
    assert dry(client, distilled_spec(teacher))["cost"]["seconds"] == pytest.approx(16.0)


def test_interrupted_and_retried_runs_say_nothing_of_the_cost(client: TestClient) -> None:
    job, worker = start(client)
    worker.send(worker.ended("failed", cause="x", retryable=True))
    claim(client, job["id"])
    with client.app.state.db.write() as session:
        row = session.get_one(Job, job["id"])
        row.state, row.step, row.started_at, row.ended_at = "succeeded", 4, 0.0, 1000.0
    assert dry(client)["cost"]["seconds"] is None


def test_the_cost_of_a_run_whose_length_only_its_data_says_is_not_known(client: TestClient) -> None:
    spec = tiny_spec(data={"type": "voc", "root": "/d", "classes": ["a"]}, schedule={"epochs": 3})
    assert (dry(client, spec)["plan"]["steps"], dry(client, spec)["plan"]["epochs"]) == (None, 3.0)
    assert "data set" in dry(client, spec)["cost"]["basis"]


# -------------------------------------------------------------------------------------------------------- queue


def test_the_position_counts_what_goes_first(client: TestClient) -> None:
    for priority in (-1, 0, 0, 5):
        client.post(JOBS, json=tiny_spec(), params={"priority": priority})
    assert [dry(client, priority=p)["queue"]["position"] for p in (-5, 0, 1, 5, 6)] == [5, 4, 2, 2, 1]


def test_whether_it_fits_is_told_from_the_machines_that_are_known(client: TestClient) -> None:
    unknown = dry(client)["queue"]
    assert (unknown["fits"], "no machine" in unknown["reason"]) == (None, True)
    add_node(client, "a")
    add_node(client, "b", cpus=1, gpus=2)
    add_node(client, "gone", cpus=64, gpus=8, alive=False)
    assert dry(client)["queue"] | {"position": 0} == {"position": 0, "fits": True, "reason": None}

    def reason(**resources: int) -> str | None:
        queue = dry(client, tiny_spec(resources=resources))["queue"]
        assert queue["fits"] is (queue["reason"] is None)
        return queue["reason"]

    assert reason(cpus=4) is None
    assert reason(gpus=1) is None
    assert "8 CPUs (at most 4)" in str(reason(cpus=8))
    assert "all of what it asks for at once" in str(reason(cpus=2, gpus=1))
    assert reason(cpus=2, gpus=2) is None  # two processes may be on two machines


def test_a_project_that_may_use_fewer_gpus_never_starts_it(client: TestClient) -> None:
    with client.app.state.db.write() as session:
        session.add(Project(id="cells", created_at=0.0, max_gpus=1.0))
    add_node(client, "a", gpus=8, cpus=8)
    queue = dry(client, tiny_spec(resources={"gpus": 2}), project="cells")["queue"]
    assert (queue["fits"], "project cells may use 1" in queue["reason"]) == (False, True)


def test_what_is_no_request_at_all_is_refused_as_everywhere(client: TestClient) -> None:
    assert client.post("/api/v1/jobs:validate", content=b"{").status_code == 400
    assert client.post("/api/v1/jobs:validate", json=tiny_spec(), params={"priority": 500}).status_code == 422
    assert client.post("/api/v1/jobs:validate", json=tiny_spec(), params={"project": "nope"}).status_code == 404
