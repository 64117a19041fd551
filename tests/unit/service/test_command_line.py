"""Commands that change jobs, and those about access, against the real API in this process."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.client import Client
from tests.helpers.api import finish, make_client, start, submit


@pytest.fixture
def run(settings, monkeypatch):
    """`run("cancel", id)`: the exit code and what was printed, with the API in this process."""
    with make_client(settings) as http:
        client = Client("http://testserver", http.headers["Authorization"].removeprefix("Bearer "), http=http)
        monkeypatch.setattr(Client, "from_settings", classmethod(lambda cls, settings: client))
        monkeypatch.setattr(Client, "close", lambda self: None)

        def call(*args: str) -> tuple[int, str]:
            result = CliRunner().invoke(app, [*args, "--home", str(settings.home)])
            return result.exit_code, result.output

        call.http = http  # type: ignore[attr-defined]
        yield call


def test_a_job_is_paused_resumed_changed_and_cancelled(run):
    job = submit(run.http)["id"]
    assert run("pause", job) == (0, f"{job} paused\n")
    assert run("set", job, "--priority", "7", "--tag", "night") == (0, f"{job} paused\n")
    assert run("resume", job) == (0, f"{job} queued\n")
    assert run("cancel", job) == (0, f"{job} cancelled\n")
    shown = run.http.get(f"/api/v1/jobs/{job}").json()
    assert (shown["priority"], shown["tags"]) == (7, ["night"])


def test_a_verb_for_all_that_fit_a_filter(run):
    jobs = sorted(submit(run.http)["id"] for _ in range(3))
    code, text = run("cancel", "--filter", "state:queued")
    assert code == 0
    assert sorted(line.split()[0] for line in text.splitlines()) == jobs


def test_what_is_refused_for_one_job_is_said_and_the_rest_is_done(run):
    done, queued = finish(run.http, None, 30.0), submit(run.http)["id"]
    code, text = run("cancel", done, queued)
    assert code == 1
    assert f"{queued} cancelled" in text
    assert "already succeeded" in text


def test_a_failed_job_is_retried_and_a_job_is_cloned_with_a_change(run):
    job, worker = start(run.http)
    worker.send(worker.ended("failed", cause="bad data"))
    code, text = run("retry", job["id"])
    assert code == 0
    again = run.http.get(f"/api/v1/jobs/{text.strip()}").json()
    assert (again["origin"], again["parent_id"]) == ("retry", job["id"])
    code, text = run("clone", job["id"], "--set", "schedule.steps=9", "--seed", "4")
    assert code == 0, text
    clone = run.http.get(f"/api/v1/jobs/{text.strip()}").json()
    assert (clone["spec"]["schedule"]["steps"], clone["seed"], clone["origin"]) == (9, 4, "clone")
    assert clone["spec"]["data"] == job["spec"]["data"]


def test_a_token_is_made_listed_and_revoked(run):
    code, text = run("token", "create", "laptop", "--scope", "read", "--days", "1")
    assert code == 0
    assert text.startswith("bcd_")
    code, text = run("token", "list")
    assert "laptop" in text
    made = next(one for one in run.http.get("/api/v1/tokens").json()["items"] if one["name"] == "laptop")
    assert run("token", "revoke", made["id"])[0] == 0
    code, text = run("token", "list")
    assert "revoked" in text


def test_projects_and_users_are_made_and_shown(run):
    assert run("project", "create", "cells", "--max-jobs", "2") == (0, "cells\n")
    assert run("user", "create", "ann") == (0, "ann\n")
    assert run("project", "member", "cells", "ann", "editor")[0] == 0
    assert "cells" in run("project", "list")[1]
    assert "ann" in run("user", "list")[1]


def test_the_cluster_without_a_dispatcher_says_so(run):
    code, text = run("cluster")
    assert code == 0
    assert "no dispatcher has run yet" in text


def test_jobs_are_listed_by_filter_and_order(run):
    low, high = finish(run.http, None, 10.0), finish(run.http, None, 90.0)
    submit(run.http)
    code, text = run("jobs", "state:succeeded", "--sort", "created")
    assert code == 0
    assert text.index(low) < text.index(high)
    assert "queued" not in text
