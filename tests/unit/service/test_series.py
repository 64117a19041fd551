"""Curves and tables over several runs, against a plain computation over all points."""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.helpers.api import bearer, make_user
from tests.helpers.jobs import add_job, add_points

QUERY, TABLE = "/api/v1/series:query", "/api/v1/series:table"
Points = list[tuple[int, float, float]]  # step, value, time

# Steps with holes, of very different length, and times at which nothing is regular.
LENGTHS = {"a": 3000, "b": 2900, "c": 40, "d": 1, "e": 700}
SPECS = {"a": ("bckd", 0), "b": ("bckd", 1), "c": ("bckd", 2), "d": ("", 0), "e": ("", 1)}


def made_points(name: str) -> Points:
    draw = random.Random(name)
    step, moment, points = 0, 1000.0 + 100 * draw.random(), []
    for _ in range(LENGTHS[name]):
        step += draw.choice([1, 1, 1, 2, 7])
        moment += 3 * draw.random()
        points.append((step, draw.gauss(10, 3), moment))
    return points


@pytest.fixture
def runs(client: TestClient) -> dict[str, Points]:
    """Five runs with the series AP; `a` has a second one."""
    all_points = {name: made_points(name) for name in LENGTHS}
    with client.app.state.db.write() as session:
        for name, points in all_points.items():
            method, seed = SPECS[name]
            spec = {"name": name, "seed": seed, "methods": [method]}
            add_job(session, id=name, seed=seed, methods=f",{method},", spec=spec, started_at=990.0)
            add_points(session, name, {"AP": points})
        add_points(session, "a", {"loss": [(1, 5.0, 1000.0), (2, 4.0, 1001.0)]})
    return all_points


def ask(client: TestClient, **query: Any) -> dict[str, Any]:
    response = client.post(QUERY, json=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def bucketed(points: Points, x: Any, width: float) -> dict[int, Points]:
    found: dict[int, Points] = defaultdict(list)
    for point in points:
        found[math.floor(x(point) / width)].append(point)
    return dict(sorted(found.items()))


X = {"step": lambda p: p[0], "time": lambda p: p[2], "relative_time": lambda p: p[2] - 990.0}


@pytest.mark.parametrize("x", list(X))
@pytest.mark.parametrize("part", [(None, None), (100, None), (None, 1900.5), (333.25, 1500)])
def test_a_curve_holds_the_last_least_and_greatest_of_every_bucket_over_all_points(
    client: TestClient, runs: dict[str, Points], x: str, part: tuple[float | None, float | None]
) -> None:
    shift = 1000.0 if x == "time" else 0.0
    begin, end = (None if limit is None else limit + shift for limit in part)
    for buckets in (10, 97, 1000):
        answer = ask(
            client, runs=list(runs), metrics=["AP"], x=x, buckets=buckets,
            **{key: limit for key, limit in (("from", begin), ("to", end)) if limit is not None},
        )  # fmt: skip
        lines = {line["runs"][0]: line for line in answer["lines"]}
        for name, points in runs.items():
            asked = [p for p in points if (begin or -1e9) <= X[x](p) <= (1e18 if end is None else end)]
            if not asked:
                assert name not in lines
                continue
            line = lines[name]
            assert line["points"] == len(asked)
            assert len(line["x"]) <= buckets
            if len(asked) <= buckets:
                assert line["width"] is None
                assert line["x"] == pytest.approx([X[x](p) for p in asked])
                assert line["last"] == line["min"] == line["max"] == [p[1] for p in asked]
            else:
                assert math.log2(line["width"]).is_integer()
                expected = bucketed(asked, X[x], line["width"]).values()
                assert line["x"] == pytest.approx([X[x](some[-1]) for some in expected])
                assert line["last"] == [some[-1][1] for some in expected]
                assert line["min"] == [min(p[1] for p in some) for some in expected]
                assert line["max"] == [max(p[1] for p in some) for some in expected]
                assert len(line["x"]) >= buckets / 8  # not much coarser than was asked for


@pytest.mark.parametrize("x", list(X))
def test_a_group_is_the_mean_over_its_runs_of_their_last_values_in_each_bucket(
    client: TestClient, runs: dict[str, Points], x: str
) -> None:
    for buckets in (20, 300):
        answer = ask(client, runs=list(runs), metrics=["AP"], x=x, buckets=buckets, group="method")
        assert [(line["group"], line["runs"]) for line in answer["lines"]] == [("bckd", [*"abc"]), ("none", [*"de"])]
        for line in answer["lines"]:
            members = [bucketed(runs[name], X[x], line["width"]) for name in line["runs"]]
            numbers = sorted(set().union(*members))
            assert len(numbers) == len(line["x"]) <= buckets
            assert line["points"] == sum(LENGTHS[name] for name in line["runs"])
            assert line["last"] is None
            for i, number in enumerate(numbers):
                some = [member[number] for member in members if number in member]
                last = [points[-1][1] for points in some]
                assert line["n"][i] == len(some)
                assert line["mean"][i] == pytest.approx(statistics.fmean(last))
                assert line["std"][i] == (pytest.approx(statistics.stdev(last)) if len(last) > 1 else None)
                assert line["x"][i] == pytest.approx(max(X[x](p[-1]) for p in some))
                assert line["min"][i] == min(p[1] for points in some for p in points)
                assert line["max"][i] == max(p[1] for points in some for p in points)


def test_seeds_that_report_at_the_same_steps_are_averaged_step_by_step(client: TestClient) -> None:
    values = {"s0": [1.0, 4.0, 9.0], "s1": [3.0, 4.0], "s2": [5.0, 7.0, 11.0]}
    with client.app.state.db.write() as session:
        for seed, (name, some) in enumerate(values.items()):
            add_job(session, id=name, name=name, seed=seed, spec={"name": name, "seed": seed, "same": 1})
            add_points(session, name, {"AP": [(50 * (i + 1), value, 0.0) for i, value in enumerate(some)]})
        add_job(session, id="other", spec={"name": "s0", "seed": 0, "same": 2})
        add_points(session, "other", {"AP": [(50, 100.0, 0.0)]})
    one, other = ask(client, runs=["s0", "other", "s1", "s2"], metrics=["AP"], group="spec")["lines"]
    assert (one["runs"], other["runs"]) == (["s0", "s1", "s2"], ["other"])
    assert one["group"] != other["group"]
    assert (one["x"], one["n"]) == ([50, 100, 150], [3, 3, 2])
    assert one["mean"] == pytest.approx([3, 5, 10])
    assert one["std"] == pytest.approx([2, math.sqrt(3), math.sqrt(2)])
    assert (one["min"], one["max"]) == ([1, 4, 9], [5, 7, 11])
    assert (other["mean"], other["std"], other["n"]) == ([100], [None], [1])


@pytest.mark.parametrize("group", ["none", "method", "seed"])
@pytest.mark.parametrize("x", list(X))
def test_a_line_never_depends_on_what_else_is_shown(
    client: TestClient, runs: dict[str, Points], x: str, group: str
) -> None:
    whole = ask(client, runs=[*runs, "missing"], metrics=["AP", "loss"], x=x, group=group)["lines"]
    for line in whole:
        (alone,) = ask(client, runs=line["runs"], metrics=[line["metric"]], x=x, group=group)["lines"]
        assert alone == line


def test_a_zoom_moves_no_bucket_of_the_same_width(client: TestClient, runs: dict[str, Points]) -> None:
    (whole,) = ask(client, runs=["a"], metrics=["AP"], buckets=400)["lines"]
    width, half = whole["width"], len(whole["x"]) // 2
    begin = math.floor(whole["x"][half] / width) * width
    (part,) = ask(client, runs=["a"], metrics=["AP"], buckets=150, **{"from": begin})["lines"]
    assert part["width"] == width
    assert (part["x"], part["last"], part["max"]) == tuple(whole[key][half:] for key in ("x", "last", "max"))


def test_lines_come_by_metric_and_run_as_they_were_asked_for_and_each_once(
    client: TestClient, runs: dict[str, Points]
) -> None:
    answer = ask(client, runs=["c", "a", "c", "x", "d"], metrics=["loss", "AP", "none", "AP"])
    shown = [(line["metric"], line["runs"]) for line in answer["lines"]]
    assert shown == [("loss", ["a"]), ("AP", ["c"]), ("AP", ["a"]), ("AP", ["d"])]
    assert (answer["missing"], answer["x"]) == (["x"], "step")


def test_the_table_shows_what_each_run_reported(client: TestClient, runs: dict[str, Points]) -> None:
    response = client.post(TABLE, json={"runs": ["c", "a", "x", "a"], "metrics": ["AP", "loss", "none"]})
    answer = response.json()
    assert (response.status_code, answer["missing"]) == (200, ["x"])
    c, a = answer["rows"]
    assert (c["run"], a["run"], c["metrics"].keys(), a["metrics"].keys()) == ("c", "a", {"AP"}, {"AP", "loss"})
    best = max(runs["c"], key=lambda p: p[1])
    assert c["metrics"]["AP"] == {
        "last": runs["c"][-1][1], "last_step": runs["c"][-1][0], "best": best[1], "best_step": best[0], "count": 40,
    }  # fmt: skip
    assert (a["metrics"]["loss"]["best"], a["metrics"]["loss"]["best_step"]) == (4.0, 2)


def test_runs_of_other_projects_are_missing(client: TestClient) -> None:
    with client.app.state.db.write() as session:
        for name in ("mine", "theirs"):
            add_job(session, id=name, project_id=name, metrics={"AP": 1.0})
    client.headers.update(bearer(make_user(client, "ann", "viewer", project="mine", scope="read")))
    for path, shown in ((QUERY, "lines"), (TABLE, "rows")):
        answer = client.post(path, json={"runs": ["theirs", "mine"], "metrics": ["AP"]}).json()
        assert answer["missing"] == ["theirs"]
        assert len(answer[shown]) == 1
        assert "theirs" not in str(answer[shown])


@pytest.mark.parametrize(
    ("change", "pointer", "said"),
    [
        ({"runs": []}, "/runs", "at least 1 item"),
        ({"runs": ["a"] * 201}, "/runs", "at most 200 items"),
        ({"metrics": []}, "/metrics", "at least 1 item"),
        ({"buckets": 1001}, "/buckets", "less than or equal to 1000"),
        ({"buckets": 2}, "/buckets", "greater than or equal to 10"),
        ({"x": "epoch"}, "/x", "'step', 'time' or 'relative_time'"),
        ({"group": "name"}, "/group", "'none'"),
        ({"from": 5, "to": 4}, "", "swap them"),
        ({"runs": [str(i) for i in range(200)], "metrics": [*"abc"]}, "", "ask for fewer runs"),
        ({"smooth": 3}, "/smooth", "not permitted"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    client: TestClient, change: dict[str, Any], pointer: str, said: str
) -> None:
    response = client.post(QUERY, json={"runs": ["a"], "metrics": ["AP"], **change})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["pointer"] == pointer
    assert said in error["detail"]


@pytest.mark.parametrize("limit", [-1e300, -1, 0.5, 2**40, 1e300])
@pytest.mark.parametrize("x", list(X))
def test_any_part_of_x_can_be_asked_for(client: TestClient, runs: dict[str, Points], x: str, limit: float) -> None:
    for key in ("from", "to"):
        ask(client, runs=list(runs), metrics=["AP"], x=x, group="method", **{key: limit})
    ask(client, runs=list(runs), metrics=["AP"], x=x, **{"from": limit, "to": limit})


def test_two_points_at_the_same_time_are_one_place_or_two(client: TestClient) -> None:
    with client.app.state.db.write() as session:
        add_job(session, id="flat")
        add_points(session, "flat", {"AP": [(step, float(step), 1000.0) for step in range(50)]})
    (raw,) = ask(client, runs=["flat"], metrics=["AP"], x="time")["lines"]
    assert (raw["last"], raw["width"]) == ([float(step) for step in range(50)], None)
    (one,) = ask(client, runs=["flat"], metrics=["AP"], x="time", buckets=10)["lines"]
    assert (one["x"], one["last"], one["min"], one["max"]) == ([1000.0], [49.0], [0.0], [49.0])
