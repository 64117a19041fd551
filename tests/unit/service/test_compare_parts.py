"""The comparison by class and by size: what is compared, what is corrected, what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from scipy import stats as scipy_stats
from starlette.testclient import TestClient

from tests.helpers.api import distilled_spec, finish, tiny_spec

BIG = {"backbone": "tiny", "width": 8, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]}
Classes = Mapping[str, float | None]

TEACHER: Classes = {"cat": 60.0, "dog": 50.0, "owl": 40.0, "ghost": None}
BASELINE: list[Classes] = [
    {"cat": 40.0, "dog": 30.0, "owl": 20.0, "ghost": None},
    {"cat": 41.0, "dog": 33.0, "owl": 20.0, "ghost": None},
    {"cat": 42.0, "dog": 30.0, "owl": 23.0, "ghost": None},
]
DISTILLED: list[Classes] = [
    {"cat": 45.0, "dog": 31.0, "owl": 18.0, "ghost": None},
    {"cat": 46.2, "dog": 29.0, "owl": 18.1, "ghost": None},
    {"cat": 46.9, "dog": 33.0, "owl": 20.8, "ghost": None},
]


def parts(client: TestClient, *ids: str) -> dict[str, Any]:
    response = client.get("/api/v1/compare/parts", params={"ids": ",".join(ids)})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def world(client: TestClient, *, seeds: int = 3, teacher_protocol: str = "p", **others: Any) -> list[str]:
    teacher = finish(client, tiny_spec(name="teacher", student=BIG), 50.0, protocol=teacher_protocol, per_class=TEACHER)
    pairs = zip(BASELINE[:seeds], DISTILLED[:seeds], strict=True)
    ids = []
    for seed, (plain, taught) in enumerate(pairs):
        ids.append(finish(client, tiny_spec(name=f"base-{seed}", seed=seed), 30.0, per_class=plain, **others))
        spec = distilled_spec(teacher, name=f"bckd-{seed}", seed=seed)
        ids.append(finish(client, spec, 31.0, per_class=taught, **others))
    return ids


def test_each_class_has_its_paired_difference_corrected_over_the_classes(client: TestClient) -> None:
    (one,) = parts(client, *world(client))["comparisons"]
    assert [part["name"] for part in one["classes"]] == ["cat", "dog", "owl"]  # ghost has no objects
    ps = {}
    for part in one["classes"]:
        name = part["name"]
        plain, taught = [run[name] for run in BASELINE], [run[name] for run in DISTILLED]
        tested = scipy_stats.ttest_rel(taught, plain)
        assert (part["paired"], part["n"]) == (True, 3)
        assert part["teacher"] == TEACHER[name]
        assert part["baseline"] == pytest.approx(sum(x or 0.0 for x in plain) / 3)
        assert part["distilled"] == pytest.approx(sum(x or 0.0 for x in taught) / 3)
        assert part["mean"] == pytest.approx(part["distilled"] - part["baseline"])
        assert part["p"] == pytest.approx(tested.pvalue)
        between = tested.confidence_interval(0.95)
        assert (part["low"], part["high"]) == (pytest.approx(between.low), pytest.approx(between.high))
        ps[name] = float(tested.pvalue)
    smallest, middle, largest = sorted(ps, key=lambda name: ps[name])
    adjusted = {part["name"]: part["p_adjusted"] for part in one["classes"]}
    assert adjusted[smallest] == pytest.approx(3 * ps[smallest])
    assert adjusted[middle] == pytest.approx(max(3 * ps[smallest], 2 * ps[middle]))
    assert adjusted[largest] == pytest.approx(ps[largest])
    assert {part["name"]: part["verdict"] for part in one["classes"]} == {
        "cat": "better",
        "dog": "no clear difference",
        "owl": "worse",
    }


def test_sizes_without_objects_are_left_out(client: TestClient) -> None:
    (one,) = parts(client, *world(client, APl=None))["comparisons"]
    assert [part["name"] for part in one["sizes"]] == ["medium"]  # the helper's runs have no small objects
    (medium,) = one["sizes"]
    assert (medium["baseline"], medium["distilled"], medium["teacher"]) == (30.0, 31.0, 50.0)
    assert medium["p_adjusted"] is None  # one of its kind: nothing to correct


def test_below_three_seeds_no_class_is_called_better(client: TestClient) -> None:
    (one,) = parts(client, *world(client, seeds=2))["comparisons"]
    assert {part["verdict"] for part in one["classes"]} == {"not enough seeds"}
    assert {part["p"] for part in one["classes"]} == {None}


def test_a_teacher_of_another_protocol_stands_beside_nothing(client: TestClient) -> None:
    (one,) = parts(client, *world(client, teacher_protocol="other"))["comparisons"]
    assert one["teacher_label"] is None
    assert {part["teacher"] for part in one["classes"]} == {None}


def test_runs_of_different_protocols_are_not_compared_and_it_says_so(client: TestClient) -> None:
    plain = finish(client, tiny_spec(name="base"), 30.0, protocol="one")
    teacher = finish(client, tiny_spec(name="teacher", student=BIG), 50.0)
    taught = finish(client, distilled_spec(teacher, name="bckd"), 35.0, protocol="two")
    answer = parts(client, plain, taught)
    assert answer["comparisons"] == []
    assert any("different protocols" in warning for warning in answer["warnings"])


def test_nothing_to_compare_is_a_question_that_says_what_to_give(client: TestClient) -> None:
    response = client.get("/api/v1/compare/parts", params={"ids": " , "})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "?ids"
