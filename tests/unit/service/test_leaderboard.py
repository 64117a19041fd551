"""What is best so far: only what means the same stands side by side."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.helpers.api import (
    FakeDriver,
    bearer,
    distilled_spec,
    end_job,
    finish,
    make_project,
    make_user,
    submit,
    tiny_spec,
    tiny_sweep,
)

BIG = {"backbone": "tiny", "width": 8, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]}


def boards(client: TestClient, **params: Any) -> dict[str, Any]:
    response = client.get("/api/v1/leaderboard", params=params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def world(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(name="teacher", student=BIG), 50.0)
    for seed in range(3):
        finish(client, tiny_spec(name="base", seed=seed), 30.0 + 0.1 * seed)
        finish(client, distilled_spec(teacher, name="bckd", seed=seed), 35.0 + 0.2 * seed)


def test_groups_over_seeds_the_best_first(client: TestClient) -> None:
    world(client)
    submit(client, tiny_spec(name="waits", seed=9))
    answer = boards(client)
    (board,) = answer["boards"]
    assert answer["runs"] == 7
    assert [row["role"] for row in board["rows"]] == ["teacher", "distilled", "baseline"]
    distilled = board["rows"][1]
    assert (distilled["n"], distilled["mean"], distilled["verdict"]) == (3, pytest.approx(35.2), "better")
    assert distilled["difference"] == pytest.approx(5.1)
    assert 0 < distilled["gap_closed"] < 1
    assert len(distilled["job_ids"]) == 3
    assert (board["rows"][2]["verdict"], board["groups"], board["data"]) == (None, 3, "digits-scenes-v1")


def test_another_protocol_is_another_board(client: TestClient) -> None:
    world(client)
    finish(client, tiny_spec(name="elsewhere", seed=5), 80.0, protocol="q")
    assert [[board["protocol"], len(board["rows"])] for board in boards(client)["boards"]] == [["q", 1], ["p", 3]]


def test_only_the_newest_runs_are_looked_at(client: TestClient) -> None:
    world(client)
    answer = boards(client, runs=1)
    assert answer["runs"] == 1
    assert {row["role"] for row in answer["boards"][0]["rows"]} == {"distilled", "teacher"}  # whom it learned from


def test_trials_of_sweeps_are_left_out(client: TestClient) -> None:
    world(client)
    sweep = client.post("/api/v1/sweeps", json=tiny_sweep()).json()["id"]
    job = FakeDriver(client, sweep).add(1, lr=0.01, width=4)["job_id"]
    end_job(client, job, 99.0)
    assert boards(client)["runs"] == 7


def test_nothing_has_finished_and_others_see_nothing(client: TestClient) -> None:
    assert boards(client) == {"boards": [], "runs": 0}
    world(client)
    make_project(client, "theirs")
    stranger = bearer(make_user(client, "sam", "editor", project="theirs"))
    assert client.get("/api/v1/leaderboard", headers=stranger).json() == {"boards": [], "runs": 0}
