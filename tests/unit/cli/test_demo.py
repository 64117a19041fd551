"""The demo against a service made of a function: what it submits, and what it does when a job fails."""

from __future__ import annotations

import json

import httpx
import pytest

from service.cli import demo
from service.cli.console import Fault
from service.settings import Settings
from tests.unit.cli.helpers import client_of, job_json


def service_of(states):
    """A service whose jobs are at once in the given state by name; `calls` collects what it was asked."""
    calls = []
    jobs = {}

    def answer(request):
        calls.append(request)
        if request.method == "POST" and request.url.path == "/api/v1/jobs":
            spec = json.loads(request.content)
            job_id = f"job_{len(jobs)}"
            jobs[job_id] = job_json(
                job_id, name=spec["name"], spec=spec, seed=spec.get("seed", 0), state=states[spec["name"]], ended_at=2.0
            )
            if jobs[job_id]["state"] == "failed":
                jobs[job_id]["cause"] = "the loss is not finite"
            return httpx.Response(201, json=jobs[job_id])
        job_id = request.url.path.split("/")[4]
        return httpx.Response(200, json=jobs[job_id])

    return client_of(answer), jobs, calls


DONE = {"demo-teacher": "succeeded", "demo-baseline": "succeeded", "demo-bckd": "succeeded"}


def test_everything_is_submitted_at_once_and_distilled_students_name_the_teachers_job():
    client, jobs, _ = service_of(DONE)
    plan = demo.submit_all(client, 2, 50, run="r")
    assert len(jobs) == 5
    assert plan.teacher == "job_0"
    assert [jobs[job]["seed"] for job in plan.baselines] == [0, 1]
    # a teacher of 50 steps is not refused: whoever shortens the demo wants to see it run
    assert [jobs[job]["spec"]["teacher"] for job in plan.distilled] == [{"job": "job_0", "preflight": "warn"}] * 2
    assert {job["spec"]["schedule"]["steps"] for job in jobs.values()} == {50}
    assert {job["spec"]["resources"]["cpus"] for job in jobs.values()} == {1}


def test_the_demo_in_full_length_has_its_teacher_checked():
    client, jobs, _ = service_of(DONE)
    plan = demo.submit_all(client, 1, None, run="r")
    assert jobs[plan.distilled[0]]["spec"]["teacher"] == {"job": "job_0"}


def test_a_rerun_makes_new_jobs_and_a_repeated_request_does_not():
    client, _, calls = service_of(DONE)
    for run in ("r1", "r2"):
        demo.submit_all(client, 2, None, run=run)
    keys = [request.headers["Idempotency-Key"] for request in calls]
    assert len(set(keys)) == len(keys) == 10


def test_when_all_jobs_succeed_they_are_returned():
    client, _, _ = service_of(DONE)
    plan = demo.submit_all(client, 1, None, run="r")
    assert set(demo.follow_all(client, plan)) == set(plan.all)


def test_a_failed_job_stops_the_rest_and_tells_its_cause():
    client, _, calls = service_of({**DONE, "demo-teacher": "failed", "demo-bckd": "waiting", "demo-baseline": "queued"})
    plan = demo.submit_all(client, 2, None, run="r")
    with pytest.raises(Fault, match=r"demo-teacher.*failed: the loss is not finite") as fault:
        demo.follow_all(client, plan)
    assert fault.value.code == 1
    cancelled = [request.url.path.split("/")[4] for request in calls if request.url.path.endswith("/cancel")]
    assert set(cancelled) == set(plan.all)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ('{"pending": 0, "error": null}', None),
        ('{"pending": 2, "error": null}', "2 jobs"),
        ('{"pending": 2, "error": "MLflow does not answer"}', "does not answer"),
        ("", "not started"),
    ],
)
def test_the_mirror_is_waited_for_no_longer_than_patience(tmp_path, text, missing):
    settings = Settings.load(tmp_path)
    settings.run.mkdir()
    (settings.run / "mirror.json").write_text(text)
    found = demo.wait_for_mirror(settings, patience=0.0)
    assert found == missing if missing is None else missing in found


def test_time_is_told_by_phase():
    clock = demo.Clock()
    clock.add("start-up", 20.0)
    clock.add("teacher", 45.0)
    assert str(clock) == "1 min 05 s (start-up 20 s, teacher 45 s)"
