"""The mirror in MLflow ends up equal to the database, whatever happens to MLflow on the way."""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from service.dispatch.mirror import Mirror, flatten, pending
from service.dispatch.mlflow_api import Mlflow, MlflowAway

from service.jobs import service as jobs
from service.models import Mirror as Row
from tests.helpers.api import ROOT

from .conftest import RUNNING, SUCCEEDED, checkpoint


class FakeMlflow:
    """A tracking server in memory behind a transport; `fault` may break any request, before or after its effect."""

    def __init__(self) -> None:
        self.fault: Callable[[], str | None] = lambda: None
        self.clear()

    def clear(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, str] = {}
        self.versions: list[dict[str, Any]] = []
        self.models: set[str] = set()
        self.files: dict[str, bytes] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        fault = self.fault()
        if fault == "refused":
            raise httpx.ConnectError("connection refused")
        if fault == "500":
            return httpx.Response(500, text="oops")
        body = request.read()
        answer = self._answer(request, body)
        if fault == "lost":
            raise httpx.ReadTimeout("too slow")
        return answer

    def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        path = request.url.path
        if path == "/health":
            return httpx.Response(200, text="OK")
        if "/mlflow-artifacts/" in path:
            self.files[path.split("/artifacts/", 2)[-1]] = body
            return httpx.Response(200, json={})
        call = path.removeprefix("/api/2.0/mlflow/").replace("/", "_").replace("-", "_")
        values = json.loads(body) if body else dict(request.url.params)
        return getattr(self, call)(values)

    def experiments_get_by_name(self, values):
        name = values["experiment_name"]
        if name not in self.experiments:
            return self._missing()
        return httpx.Response(200, json={"experiment": {"experiment_id": self.experiments[name]}})

    def experiments_create(self, values):
        self.experiments[values["name"]] = "1"
        return httpx.Response(200, json={"experiment_id": "1"})

    def runs_search(self, values):
        wanted = re.search(r"= '(.*)'", values["filter"])[1]
        found = [{"info": {"run_id": id}} for id, run in self.runs.items() if run["tags"]["bcd.job_id"] == wanted]
        return httpx.Response(200, json={"runs": found[:1]} if found else {})

    def runs_create(self, values):
        run_id = f"run{len(self.runs)}"
        tags = {tag["key"]: tag["value"] for tag in values["tags"]}
        self.runs[run_id] = {"tags": tags, "params": {}, "metrics": set(), "status": "RUNNING"}
        return httpx.Response(200, json={"run": {"info": {"run_id": run_id}}})

    def runs_update(self, values):
        if values["run_id"] not in self.runs:
            return self._missing()
        self.runs[values["run_id"]]["status"] = values["status"]
        return httpx.Response(200, json={})

    def runs_log_batch(self, values):
        run = self.runs.get(values["run_id"])
        if run is None:
            return self._missing()
        assert len(values.get("metrics", [])) <= 1000
        assert len(values.get("params", [])) <= 100
        run["metrics"] |= {(m["key"], m["step"], m["value"], m["timestamp"]) for m in values.get("metrics", [])}
        run["tags"] |= {tag["key"]: tag["value"] for tag in values.get("tags", [])}
        run["params"] |= {param["key"]: param["value"] for param in values.get("params", [])}
        return httpx.Response(200, json={})

    def registered_models_create(self, values):
        if values["name"] in self.models:
            return httpx.Response(400, json={"error_code": "RESOURCE_ALREADY_EXISTS", "message": "there"})
        self.models.add(values["name"])
        return httpx.Response(200, json={})

    def model_versions_search(self, values):
        run = re.search(r"'(.*)'", values["filter"])[1]
        return httpx.Response(200, json={"model_versions": [v for v in self.versions if v["run_id"] == run]})

    def model_versions_create(self, values):
        version = {"name": values["name"], "run_id": values["run_id"], "version": str(len(self.versions) + 1)}
        self.versions.append(version)
        return httpx.Response(200, json={"model_version": version})

    def _missing(self):
        return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"})


@pytest.fixture
def server():
    return FakeMlflow()


@pytest.fixture
def mirror(world, server):
    mlflow = Mlflow("http://mlflow", transport=httpx.MockTransport(server))
    yield Mirror(world.settings, world.db, mlflow)
    mlflow.close()


def metric(step: int, loss: float = 0.5) -> dict[str, Any]:
    return {"kind": "metric", "step": step, "values": {"loss": loss, "loss/qfl": loss / 2}}


def object_file(world, record, content=b"weights"):
    path = world.settings.storage / record["key"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def finish(world, job, steps=range(1, 6)):
    world.tick()
    result = {**checkpoint(5, "d"), "type": "result", "name": "student.safetensors"}
    object_file(world, result)
    object_file(world, checkpoint(5))
    evaluation = {
        "kind": "evaluation",
        "step": 5,
        "name": "final",
        "protocol": "p",
        "results": {"AP": 30.5, "APs": None},
    }
    world.report(world.newest(job), RUNNING, *(metric(s) for s in steps), checkpoint(5), evaluation, result, SUCCEEDED)


def waiting(world) -> int:
    with world.db.read() as session:
        return pending(session)


def losses(run) -> list[tuple[int, float]]:
    return sorted((step, value) for key, step, value, _ in run["metrics"] if key == "loss")


def test_a_finished_job_is_copied_completely_and_once(world, server, mirror):
    job = world.submit(name="a/b", seed=7)
    finish(world, job)
    for _ in range(3):
        mirror.copy_news()
    (run,) = server.runs.values()
    assert run["status"] == "FINISHED"
    assert run["tags"] == {"bcd.job_id": job, "bcd.seed": "7", "bcd.methods": "none", "bcd.state": "succeeded"}
    assert run["params"]["schedule.optimizer.lr"] == "0.001"
    assert losses(run) == [(step, 0.5) for step in range(1, 6)]
    assert ("final/AP", 5, 30.5) in {row[:3] for row in run["metrics"]}
    assert set(server.files) == {
        "result/student.safetensors",
        "checkpoint/step-00000005.ckpt",
    }
    assert [(v["name"], v["version"]) for v in server.versions] == [("bcd-a-b", "1")]
    assert waiting(world) == 0


def test_steps_that_a_retry_may_do_again_wait_for_the_next_checkpoint(world, server, mirror):
    job = world.submit()
    world.tick()
    world.report(world.newest(job), RUNNING, metric(1), metric(2), checkpoint(3), metric(3), metric(4, loss=9.0))
    mirror.copy_news()
    (run,) = server.runs.values()
    assert losses(run) == [(1, 0.5), (2, 0.5)]
    assert run["tags"]["bcd.state"] == "running"
    assert waiting(world) == 1
    world.report(world.newest(job), metric(4), SUCCEEDED)
    mirror.copy_news()
    assert losses(run) == [(step, 0.5) for step in range(1, 5)]


def test_a_round_without_news_asks_mlflow_for_no_run(world, server, mirror):
    job = world.submit()
    world.tick()
    world.report(world.newest(job), RUNNING)
    mirror.copy_news()
    server.runs_log_batch = server.runs_update = lambda values: pytest.fail("there is nothing new")
    mirror.copy_news()


def test_failed_and_cancelled_jobs_are_copied_with_their_cause(world, server, mirror):
    failed, cancelled = world.submit(resources={"cpus": 99}), world.submit(seed=1)
    world.change(jobs.cancel, ROOT, cancelled)
    world.tick()
    mirror.copy_news()
    by_job = {run["tags"]["bcd.job_id"]: run for run in server.runs.values()}
    assert (by_job[failed]["status"], by_job[cancelled]["status"]) == ("FAILED", "KILLED")
    assert "lower resources.cpus" in by_job[failed]["tags"]["bcd.cause"]
    assert server.versions == []


@pytest.mark.parametrize("seed", range(6))
def test_catches_up_after_any_outage_without_gap_or_double(world, server, mirror, seed):
    rng = random.Random(seed)
    ids = [world.submit(seed=number) for number in range(2)]
    world.tick()
    for job in ids:
        finish(world, job, steps=range(1, 700))
    server.fault = lambda: rng.choice(["refused", "500", "lost", *[None] * 9])
    for _ in range(200):
        if waiting(world) == 0:
            break
        with contextlib.suppress(MlflowAway):
            mirror.copy_news()
    assert waiting(world) == 0
    assert {run["tags"]["bcd.job_id"] for run in server.runs.values()} == set(ids)
    for job in ids:
        with world.db.read() as session:
            run = server.runs[session.get(Row, job).run_id]
        assert losses(run) == [(step, 0.5) for step in range(1, 700)]
        assert len(run["metrics"]) == 2 * 699 + 1
    # An answer that was lost after `runs/create` or `model-versions/create` is found again, not repeated.
    assert (len(server.runs), len(server.versions)) == (2, 2)


def test_starts_again_when_mlflow_has_lost_the_run(world, server, mirror):
    job = world.submit()
    world.tick()
    world.report(world.newest(job), RUNNING, metric(1), checkpoint(2))
    mirror.copy_news()
    server.clear()
    world.report(world.newest(job), metric(3), SUCCEEDED)
    mirror.copy_news()
    assert "RESOURCE_DOES_NOT_EXIST" in mirror.error
    mirror._retry_at.clear()
    mirror.copy_news()
    (run,) = server.runs.values()
    assert losses(run) == [(1, 0.5), (3, 0.5)]


def test_one_job_that_mlflow_refuses_does_not_hold_up_the_others(world, server, mirror):
    odd, plain = world.submit(name="odd"), world.submit(name="plain", seed=1)
    create = server.runs_create

    def refuse(values):
        if values["run_name"] == "odd":
            return httpx.Response(400, json={"error_code": "INVALID_PARAMETER_VALUE", "message": "not this one"})
        return create(values)

    server.runs_create = refuse
    mirror.copy_news()
    assert {run["tags"]["bcd.job_id"] for run in server.runs.values()} == {plain}
    assert mirror.error == f"job {odd}: INVALID_PARAMETER_VALUE: not this one"


def test_the_thread_reports_what_is_pending_and_why(world, server, mirror):
    server.fault = lambda: "refused"
    world.submit()
    mirror.start()
    path = world.settings.run / "mirror.json"
    while not path.exists():
        pass
    mirror.stop(timeout=10)
    assert json.loads(path.read_text()) == {"pending": 1, "error": "MLflow does not answer"}


def test_class_names_with_odd_characters_become_valid_keys(world, server, mirror):
    job = world.submit()
    world.tick()
    values = {"AP/traffic light": 1.0, "AP/a,b(c)": 2.0, "AP/../x": 3.0, "AP/é": 4.0}
    world.report(world.newest(job), RUNNING, {"kind": "metric", "step": 1, "values": values}, SUCCEEDED)
    mirror.copy_news()
    (run,) = server.runs.values()
    assert {row[0] for row in run["metrics"]} == {"AP/traffic light", "AP/a_b_c_", "AP/___x", "AP/_"}


def test_a_spec_becomes_flat_parameters():
    spec = {"a": {"b": 1, "c": None}, "methods": [{"type": "bckd"}], "strides": [8, 16], "name": "x", "on": True}
    assert flatten(spec) == {"a.b": "1", "methods.0.type": "bckd", "strides": "[8, 16]", "name": "x", "on": "true"}
