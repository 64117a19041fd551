"""What students cost beside how good they are: what is averaged, what may share an axis, who is on the front."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from service.models import Attempt
from tests.helpers.api import distilled_spec, start, tiny_spec

BIG = {"backbone": "tiny", "width": 8, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]}
SMALL_COST = {"parameters": 2000.0, "gflops": 0.5, "latency_ms": 4.0}
BIG_COST = {"parameters": 9000.0, "gflops": 2.5, "latency_ms": 9.0}


def run(client: TestClient, spec: dict[str, Any], ap: float, cost: dict[str, float], **facts: str) -> str:
    job, worker = start(client, spec)
    worker.send(worker.record("facts", values={"device": "H100", "host": "a", **facts}))
    worker.send(
        worker.metric(4, **cost) if cost else worker.metric(4, loss=1.0),
        worker.artifact("result", "student", 4, job["id"].encode()),
        worker.evaluation(ap),
        worker.ended("succeeded"),
    )
    return str(job["id"])


def world(client: TestClient, **facts: str) -> list[str]:
    teacher = run(client, tiny_spec(name="teacher", student=BIG), 50.0, BIG_COST)
    ids = [run(client, tiny_spec(name=f"b{i}", seed=i), 30.0 + i, SMALL_COST) for i in range(3)]
    for i, latency in enumerate((4.0, 5.0, 9.0)):
        cost = {**SMALL_COST, "latency_ms": latency}
        ids.append(run(client, distilled_spec(teacher, name=f"d{i}", seed=i), 35.0 + i, cost, **facts))
    return ids


def costs(client: TestClient, ids: list[str]) -> dict[str, Any]:
    response = client.get("/api/v1/compare/costs", params={"ids": ",".join(ids)})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_group_costs_what_its_runs_cost(client: TestClient) -> None:
    groups = {group["role"]: group for group in costs(client, world(client))["groups"]}
    distilled = groups["distilled"]
    assert (distilled["parameters"], distilled["gflops"], distilled["n"]) == (2000, 0.5, 3)
    assert distilled["latencies"] == [{"device": "H100", "milliseconds": 5.0, "n": 3}]  # the median over runs
    assert groups["teacher"]["parameters"] == 9000
    assert distilled["mean"] == pytest.approx(36.0)
    assert distilled["low"] < 36 < distilled["high"]


def test_training_counts_all_attempts(client: TestClient) -> None:
    ids = world(client)
    with client.app.state.db.write() as session:  # type: ignore[attr-defined]
        session.execute(update(Attempt).values(started_at=1000.0, ended_at=1000.0 + 1800, gpus=2))
    distilled = next(group for group in costs(client, ids)["groups"] if group["role"] == "distilled")
    assert (distilled["hours"], distilled["gpu_hours"]) == (0.5, 1.0)


def test_the_front_leaves_out_what_another_beats_at_no_more_cost(client: TestClient) -> None:
    fronts = {front["metric"]: front for front in costs(client, world(client))["fronts"]}
    points = {point["role"]: point for point in fronts["parameters"]["points"]}
    assert {role: point["front"] for role, point in points.items()} == {
        "distilled": True, "baseline": False, "teacher": True,
    }  # fmt: skip
    assert [point["cost"] for point in fronts["gflops"]["points"]] == [0.5, 0.5, 2.5]
    # the baseline is quicker here: worth its place, however little it finds
    latency = {point["role"]: point["front"] for point in fronts["latency_ms"]["points"]}
    assert latency == {"distilled": True, "baseline": True, "teacher": True}
    assert fronts["hours"]["points"]


def test_latencies_of_other_devices_are_on_other_axes(client: TestClient) -> None:
    answer = costs(client, world(client, device="cpu", host="laptop"))
    axes = [front["device"] for front in answer["fronts"] if front["metric"] == "latency_ms"]
    assert axes == ["H100"]  # one point on the laptop's axis is no choice
    distilled = next(group for group in answer["groups"] if group["role"] == "distilled")
    assert distilled["latencies"][0]["device"] == "CPU of laptop"


def test_runs_that_told_no_cost_have_none(client: TestClient) -> None:
    ids = [run(client, tiny_spec(name=f"old{i}", seed=i), 30.0, {}) for i in range(2)]
    answer = costs(client, ids)
    (group,) = answer["groups"]
    assert (group["parameters"], group["gflops"], group["latencies"]) == (None, None, [])
    assert answer["fronts"] == []
