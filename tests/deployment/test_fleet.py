"""The deployment of docker-compose.yml as plain processes: two of what can be two, and every one of them killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from service.db import Database
from service.health import invariants
from service.mirror.check import compare
from service.mirror.mlflow_api import Mlflow
from tests.helpers.fleet import Fleet
from tests.helpers.installation import eventually, spec

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
LONG = 200  # steps; long enough to be hit in the middle
DISPATCHERS = ("dispatcher-1", "dispatcher-2")
ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    # Short leases, so that the tests need not wait for long ones; one idle worker, which costs as much as a job.
    given = {"BCD_LEASE_SECONDS": "8", "BCD_LEADER_SECONDS": "3", "BCD_SPARES": "1"}
    with Fleet(tmp_path_factory.mktemp("fleet"), given, api=2, dispatcher=2) as fleet:
        yield fleet
    assert fleet.processes() == []
    assert fleet.postgres.processes() == []


def call(fleet: Fleet, replica: str, method: str, path: str, **given: Any) -> Any:
    """Call one replica; wait while it is being started again."""
    headers = {"Authorization": f"Bearer {fleet.secret('admin-token')}"}

    def answer() -> httpx.Response | None:
        try:
            url = f"{fleet.url(replica)}/api/v1{path}"
            return httpx.request(method, url, headers=headers, timeout=20, trust_env=False, **given)
        except httpx.TransportError:
            return None

    response = eventually(answer, lambda response: response is not None)
    assert response.is_success, response.text
    return response.json()


def submit(fleet: Fleet, replica: str, steps: int, **changes: Any) -> str:
    return str(call(fleet, replica, "POST", "/jobs", json=spec(steps, **changes))["id"])


def wait(fleet: Fleet, replica: str, job_id: str, *states: str) -> Any:
    return eventually(lambda: call(fleet, replica, "GET", f"/jobs/{job_id}"), lambda job: job["state"] in states)


def leader(fleet: Fleet) -> str:
    def leading() -> list[str]:
        files = {name: fleet.containers[name].home / "run" / "dispatcher.json" for name in DISPATCHERS}
        return [name for name, file in files.items() if file.exists() and json.loads(file.read_text())["leads"]]

    return str(eventually(leading, lambda names: len(names) == 1)[0])


def test_a_job_submitted_to_one_replica_is_finished_and_seen_by_the_other(fleet: Fleet) -> None:
    job_id = submit(fleet, "api-1", 20)
    assert wait(fleet, "api-2", job_id, *ENDED)["state"] == "succeeded"


def test_no_secret_is_in_an_environment_or_on_a_command_line(fleet: Fleet) -> None:
    secrets = [path.read_text().strip() for path in (fleet.folder / "secrets").iterdir()]
    seen = 0
    for process in fleet.processes():
        try:
            text = "\n".join([*process.environ().values(), *process.cmdline()])
        except psutil.Error:
            continue
        seen += 1
        assert not [secret for secret in secrets if secret in text], process
    assert seen >= len(fleet.containers)


def test_everything_is_finished_although_an_api_the_leader_and_the_node_that_trains_are_killed(fleet: Fleet) -> None:
    long = submit(fleet, "api-2", LONG)
    eventually(lambda: call(fleet, "api-1", "GET", f"/jobs/{long}/artifacts")["items"], bool)  # a checkpoint
    first = leader(fleet)
    for name in ("api-1", first, "ray-worker-cpu-1"):
        fleet.kill(name)
    short = submit(fleet, "api-2", 20)
    for job_id in (long, short):
        job = wait(fleet, "api-1", job_id, *ENDED)
        assert job["state"] == "succeeded", job
        steps = job["total_steps"]
        series = call(fleet, "api-2", "GET", f"/jobs/{job_id}/metrics", params={"key": "loss"})["series"]["loss"]
        assert series["steps"] == list(range(1, steps + 1))
    attempts = call(fleet, "api-1", "GET", f"/jobs/{long}")["attempts"]
    states = [attempt["state"] for attempt in attempts]
    assert (states[0], states[-1]) == ("lost", "succeeded")


def test_in_the_end_every_promise_is_kept_and_mlflow_has_it_all(fleet: Fleet) -> None:
    settings = fleet.settings
    db, mlflow = Database(settings.database_url), Mlflow(settings.mlflow_url)
    try:
        eventually(lambda: compare(settings, db, mlflow), lambda differences: differences == [])
        with db.read() as session:
            assert [str(one) for one in invariants.check(session)] == []
    finally:
        mlflow.close()
        db.close()
