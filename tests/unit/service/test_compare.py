"""The comparison from jobs: who belongs together, against whom, and what is left out and why."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.helpers.api import distilled_spec, finish, start, submit, tiny_spec

BIG = {"backbone": "tiny", "width": 8, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]}


def compare(client: TestClient, *ids: str) -> dict[str, Any]:
    response = client.get("/api/v1/compare", params={"ids": ",".join(ids)})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def baselines(client: TestClient, *aps: float, **kwargs: Any) -> list[str]:
    return [finish(client, tiny_spec(name=f"base-{i}", seed=i), ap, **kwargs) for i, ap in enumerate(aps)]


def students(client: TestClient, teacher: str, *aps: float, **changes: Any) -> list[str]:
    return [
        finish(client, distilled_spec(teacher, name=f"bckd-{i}", seed=i, **changes), ap) for i, ap in enumerate(aps)
    ]


def roles(answer: dict[str, Any]) -> dict[str, int]:
    return {group["role"]: group["n"] for group in answer["groups"]}


def test_three_paired_seeds_tell_that_the_student_is_better(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(name="teacher", student=BIG), 50.0)
    ids = students(client, teacher, 35.0, 36.1, 35.9) + baselines(client, 30.0, 31.0, 31.0)
    answer = compare(client, *ids)
    assert answer["metric"] == "AP"
    assert answer["warnings"] == []
    assert roles(answer) == {"distilled": 3, "baseline": 3, "teacher": 1}
    distilled, baseline, teaching = answer["groups"]
    assert [job["seed"] for job in distilled["jobs"]] == [0, 1, 2]
    assert distilled["mean"] == pytest.approx(107 / 3)
    assert teaching["jobs"][0]["id"] == teacher  # though nobody asked for it
    assert teaching["std"] is None

    (one,) = answer["comparisons"]
    assert (one["label"], one["baseline_label"]) == (distilled["label"], baseline["label"])
    assert (one["paired"], one["n"], one["verdict"]) == (True, 3, "better")
    assert one["differences"] == [
        {"seed": 0, "value": pytest.approx(5.0)},
        {"seed": 1, "value": pytest.approx(5.1)},
        {"seed": 2, "value": pytest.approx(4.9)},
    ]
    assert one["low"] < one["mean"] < one["high"]
    assert one["mean"] == pytest.approx(5.0)
    assert one["gap_closed"] == pytest.approx(5.0 / (50.0 - 92 / 3))
    assert one["gap_reason"] is None
    assert "better" in one["sentence"]
    assert "5.0 AP" in one["sentence"]
    assert "26 %" in one["sentence"]


def test_two_seeds_are_not_enough_whatever_they_say(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(student=BIG), 50.0)
    answer = compare(client, *students(client, teacher, 49.0, 49.0), *baselines(client, 1.0, 1.1))
    (one,) = answer["comparisons"]
    assert (one["verdict"], one["low"], one["high"]) == ("not enough seeds", None, None)
    assert "Not enough seeds" in one["sentence"]
    assert "better" not in one["sentence"]


def test_runs_judged_under_different_protocols_are_not_compared(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(student=BIG), 50.0)
    ids = students(client, teacher, 35.0, 36.0, 36.0) + baselines(client, 30.0, 31.0, 31.0, protocol="other")
    answer = compare(client, *ids)
    assert answer["comparisons"] == []
    assert any("different protocols" in warning for warning in answer["warnings"])


def test_a_teacher_judged_under_another_protocol_gives_no_gap(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(student=BIG), 50.0, protocol="other")
    answer = compare(client, *students(client, teacher, 35.0, 36.0, 36.0), *baselines(client, 30.0, 31.0, 31.0))
    (one,) = answer["comparisons"]
    assert (one["verdict"] != "not enough seeds", one["gap_closed"]) == (True, None)
    assert "protocol" in one["gap_reason"]


def test_unfinished_and_failed_jobs_are_named_and_left_out(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(student=BIG), 50.0)
    ids = students(client, teacher, 35.0) + baselines(client, 30.0)
    waiting = submit(client, tiny_spec(seed=8))["id"]
    failed, worker = start(client, tiny_spec(seed=9))
    worker.send(worker.ended("failed", cause="disk full"))
    blind, worker = start(client, tiny_spec(seed=10))
    worker.send(worker.evaluation(None), worker.ended("succeeded"))
    answer = compare(client, *ids, waiting, failed["id"], blind["id"])
    assert roles(answer) == {"distilled": 1, "baseline": 1, "teacher": 1}
    told = "\n".join(answer["warnings"])
    for job_id, why in [(waiting, "queued"), (failed["id"], "disk full"), (blind["id"], "no AP")]:
        assert job_id in told
        assert why in told


def test_a_distilled_group_without_baseline_says_what_to_submit(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(student=BIG), 50.0)
    answer = compare(client, *students(client, teacher, 35.0))
    assert answer["comparisons"] == []
    assert "without `teacher` and `methods`" in answer["warnings"][0]


def test_unlabelled_images_belong_to_the_method_not_to_the_data(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(student=BIG), 50.0)
    more = {**tiny_spec()["data"], "unlabeled": {"images": 8}}
    answer = compare(
        client, *students(client, teacher, 35.0, 36.1, 35.9, data=more), *baselines(client, 30.0, 31.0, 31.0)
    )
    assert [one["verdict"] for one in answer["comparisons"]] == ["better"]
    assert answer["warnings"] == []


def test_another_schedule_is_no_baseline(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(student=BIG), 50.0)
    longer = finish(client, tiny_spec(schedule={"steps": 5, "batch_size": 2}), 40.0)
    answer = compare(client, *students(client, teacher, 35.0), longer)
    assert roles(answer)["other"] == 1
    assert answer["comparisons"] == []


def test_methods_with_other_settings_or_teachers_are_groups_of_their_own(client: TestClient) -> None:
    one, two = (finish(client, tiny_spec(name=f"t{i}", student=BIG, seed=i), 50.0) for i in range(2))
    ids = [
        *students(client, one, 35.0),
        *students(client, two, 36.0),
        finish(client, distilled_spec(one, name="heavy") | {"methods": [{"type": "bckd", "weight": 2.0}]}, 37.0),
        *baselines(client, 30.0),
    ]
    answer = compare(client, *ids)
    assert len(answer["comparisons"]) == 3
    labels = [group["label"] for group in answer["groups"]]
    assert len(set(labels)) == len(labels) == 6


def test_a_repeated_seed_is_no_further_evidence(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(student=BIG), 50.0)
    ids = students(client, teacher, 35.0)
    again = finish(client, distilled_spec(teacher, seed=0), 35.5)
    answer = compare(client, *ids, again)
    (distilled,) = [group for group in answer["groups"] if group["role"] == "distilled"]
    assert [job["id"] for job in distilled["jobs"]] == [again]
    assert any(ids[0] in warning and again in warning for warning in answer["warnings"])


def test_a_student_may_learn_from_a_run_that_is_also_a_baseline(client: TestClient) -> None:
    base = baselines(client, 30.0, 31.0, 32.0)
    answer = compare(client, *students(client, base[0], 33.0, 34.0, 35.1), *base)
    assert roles(answer) == {"distilled": 3, "baseline": 3, "teacher": 1}
    (one,) = answer["comparisons"]
    assert one["gap_closed"] is None
    assert "2 standard errors" in one["gap_reason"]


def test_a_teacher_from_a_file_gives_no_gap(client: TestClient) -> None:
    spec = tiny_spec(teacher={"path": "/models/teacher.safetensors"}, methods=[{"type": "bckd"}])
    ids = [finish(client, spec | {"seed": i}, 35.0 + i) for i in range(3)]
    (one,) = compare(client, *ids, *baselines(client, 30.0, 31.0, 32.0))["comparisons"]
    assert one["gap_closed"] is None
    assert "no finished job" in one["gap_reason"]


def test_ids_must_be_there_and_known(client: TestClient) -> None:
    job_id = submit(client)["id"]
    for ids, status in [("", 422), (",", 422), (f"{job_id},job_nope", 404), (",".join(map(str, range(201))), 422)]:
        assert client.get("/api/v1/compare", params={"ids": ids}).status_code == status
    assert client.get("/api/v1/compare").status_code == 422
    assert len(compare(client, job_id, job_id)["warnings"]) == 1
