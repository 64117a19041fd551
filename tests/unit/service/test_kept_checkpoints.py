"""Which checkpoints of a job stay: the newest three, and those nearest to its best evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.helpers.api import FakeWorker, claim, make_client, make_settings, start


def run(worker: FakeWorker, steps: range, aps: dict[int, float]) -> None:
    """Checkpoints at these steps, evaluations where `aps` says so, in the order of their steps."""
    for step in sorted({*steps, *aps}):
        if step in steps:
            worker.send(worker.artifact("checkpoint", f"step-{step:08d}", step, f"{worker.attempt_id} {step}".encode()))
        if step in aps:
            worker.send(worker.metric(step, AP=aps[step], loss=1.0))


def kept(client: TestClient, job: dict[str, Any]) -> list[int]:
    items = client.get(f"/api/v1/jobs/{job['id']}/artifacts").json()["items"]
    return [row["step"] for row in items if row["type"] == "checkpoint"]


def test_the_checkpoint_of_the_best_evaluation_stays_until_there_is_a_better_one(client: TestClient) -> None:
    job, worker = start(client)
    run(worker, range(10, 101, 10), {20: 30.0, 40: 10.0, 60: 29.0})
    assert kept(client, job) == [20, 80, 90, 100]
    run(worker, range(110, 161, 10), {120: 31.0})
    assert kept(client, job) == [120, 140, 150, 160]
    files = client.app.state.settings.storage / "objects"
    assert len([path for path in files.rglob("*") if path.is_file()]) == 4


def test_where_steps_differ_the_nearest_checkpoint_stays(client: TestClient) -> None:
    job, worker = start(client)
    run(worker, range(10, 101, 10), {37: 30.0, 64: 1.0})
    assert kept(client, job) == [40, 80, 90, 100]


@pytest.mark.parametrize(("count", "expected"), [(0, [80, 90, 100]), (2, [20, 60, 80, 90, 100])])
def test_how_many_stay_is_a_setting(tmp_path: Path, count: int, expected: list[int]) -> None:
    with make_client(make_settings(tmp_path, keep_best=count)) as client:
        job, worker = start(client)
        run(worker, range(10, 101, 10), {20: 30.0, 40: 10.0, 60: 29.0})
        assert kept(client, job) == expected


def test_a_retry_gets_the_newest_not_the_best(client: TestClient) -> None:
    job, worker = start(client)
    run(worker, range(10, 61, 10), {20: 30.0})
    worker.send(worker.ended("failed", cause="x", retryable=True))
    ticket = FakeWorker(client, *claim(client, job["id"])).ticket().json()
    assert [one["step"] for one in ticket["resume"]] == [60, 50, 40]


def test_an_attempt_that_had_to_start_over_keeps_what_it_writes(client: TestClient) -> None:
    """The checkpoints of the first attempt were damaged: those of the second are newer, though of earlier steps."""
    job, worker = start(client)
    run(worker, range(100, 131, 10), {})
    worker.send(worker.ended("failed", cause="x", retryable=True))
    second = FakeWorker(client, *claim(client, job["id"]))
    second.send(second.running())
    run(second, range(10, 21, 10), {})
    second.send(second.ended("failed", cause="x", retryable=True))
    ticket = FakeWorker(client, *claim(client, job["id"])).ticket().json()
    assert [one["step"] for one in ticket["resume"]] == [20, 10, 130]


def test_results_and_predictions_are_never_dropped(client: TestClient) -> None:
    job, worker = start(client)
    worker.send(*(worker.artifact("predictions", f"p-{i}", i, b"p%d" % i) for i in range(6)))
    run(worker, range(10, 101, 10), {})
    items = client.get(f"/api/v1/jobs/{job['id']}/artifacts").json()["items"]
    assert len([row for row in items if row["type"] == "predictions"]) == 6
