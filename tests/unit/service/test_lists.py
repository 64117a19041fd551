"""The list of jobs: its pages, filters, orders, rows and counts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.models import Job
from tests.helpers.api import bearer, distilled_spec, finish, make_user, start, submit, tiny_spec
from tests.helpers.jobs import add_job

JOBS = "/api/v1/jobs"


def add(client: TestClient, **columns: Any) -> str:
    with client.app.state.db.write() as session:
        return add_job(session, **columns)


def page(client: TestClient, **params: Any) -> dict[str, Any]:
    response = client.get(JOBS, params=params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def names(client: TestClient, **params: Any) -> list[str]:
    return [job["name"] for job in page(client, **params)["items"]]


def walk(client: TestClient, *, between: Any = lambda: None, **params: Any) -> list[str]:
    """The ids of all pages, one behind the other; `between` is called after each page."""
    seen: list[str] = []
    cursor = None
    while True:
        one = page(client, **params, **({"cursor": cursor} if cursor else {}))
        seen += [job["id"] for job in one["items"]]
        cursor = one["next_cursor"]
        if cursor is None:
            return seen
        between()


def test_a_row_holds_all_but_spec_and_attempts(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(name="teacher"), 40.0)
    student, worker = start(client, distilled_spec(teacher, name="student", seed=3))
    worker.send(worker.metric(1, loss=3.0, AP=10.0), worker.metric(2, loss=2.0, AP=12.0), worker.metric(3, loss=2.5))
    with client.app.state.db.write() as session:
        session.get_one(Job, student["id"]).wait_reason = "why"
    second, first = page(client, metrics="AP,loss,none")["items"]
    assert second == {
        "id": student["id"], "name": "student", "project": "default", "state": "running", "cause": None,
        "wait_reason": "why", "methods": ["bckd"], "detector": "gfl-tiny-4", "dataset": "digits-scenes-v1", "seed": 3,
        "teacher_job_id": teacher, "group": None, "tags": [], "priority": 0, "step": 3, "total_steps": 4,
        "created_by": "admin", "created_at": student["created_at"], "started_at": second["started_at"],
        "ended_at": None, "evaluation": None,
        "metrics": {
            "AP": {"last": 12.0, "last_step": 2, "best": 12.0, "best_step": 2, "count": 2},
            "loss": {"last": 2.5, "last_step": 3, "best": 2.0, "best_step": 2, "count": 3},
        },
    }  # fmt: skip
    assert first["id"] == teacher
    assert first["evaluation"] == {"AP": 40.0, "AP50": 40.0, "AP75": 40.0, "APs": None, "APm": 40.0, "APl": 40.0}
    assert first["metrics"] == {}
    assert page(client)["items"][0]["metrics"] == {}


def test_a_row_shows_tags_and_group(client: TestClient) -> None:
    add(client, tags=["night", "a"], group="g", priority=2)
    row = page(client)["items"][0]
    assert (row["tags"], row["group"], row["priority"]) == (["a", "night"], "g", 2)


def test_pages_hold_every_job_once_newest_first_also_when_new_ones_come(client: TestClient) -> None:
    made = [submit(client)["id"] for _ in range(7)]
    assert walk(client, limit=3, between=lambda: submit(client)) == made[::-1]


def test_a_page_that_ends_the_list_exactly_has_no_next(client: TestClient) -> None:
    for _ in range(2):
        submit(client)
    assert page(client, limit=2)["next_cursor"] is None


def test_the_list_can_be_filtered_by_states(client: TestClient) -> None:
    queued = submit(client)["id"]
    cancelled = submit(client)["id"]
    client.post(f"{JOBS}/{cancelled}/cancel")
    running, _ = start(client)

    def ids(*states: str) -> set[str]:
        return {job["id"] for job in page(client, state=states)["items"]}

    assert ids("queued") == {queued}
    assert ids("cancelled", "running") == {cancelled, running["id"]}


def test_filter_and_state_must_both_hold(client: TestClient) -> None:
    add(client, name="a", state="failed")
    add(client, name="b", state="failed", seed=1)
    add(client, name="c", seed=1)
    assert names(client, filter="seed:1") == ["c", "b"]
    assert names(client, filter="seed:1", state="failed") == ["b"]


def test_a_filter_that_cannot_be_read_is_refused_with_its_place(client: TestClient) -> None:
    for path in (JOBS, f"{JOBS}:count"):
        response = client.get(path, params={"filter": "tag:x stat:failed"})
        assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
        body = response.json()
        assert (body["position"], body["errors"][0]["pointer"]) == (7, "?filter")
        assert "state" in body["suggestions"]


# ------------------------------------------------------------------------------------------------- orders


@pytest.fixture
def many(client: TestClient) -> list[dict[str, Any]]:
    """Jobs with many equal and missing values, as plain values for a Python reference."""
    draw = random.Random(0)
    made = []
    with client.app.state.db.write() as session:
        for number in range(40):
            started = draw.choice([None, 2000.0, 2001.0])
            job = {
                "id": f"job_{draw.random():.6f}", "name": draw.choice(["a", "b", "c"]), "seed": draw.choice([0, 1]),
                "state": draw.choice(["failed", "succeeded"]), "priority": draw.choice([-1, 0, 3]),
                "created_at": float(draw.choice([1000, 1001, 1002.5])), "started_at": started,
                "ended_at": None if started is None else draw.choice([None, started + 0.25, started + 7]),
                "group": draw.choice([None, "g", "h"]), "step": number % 3,
            }  # fmt: skip
            metrics = {key: draw.choice([1.0, 2.0, 2.5]) for key in ("AP", "loss") if draw.random() < 0.7}
            add_job(session, metrics=metrics, **job)
            made.append(job | {f"best.{key}": value for key, value in metrics.items()})
    return made


COLUMNS = {
    "created": "created_at", "ended": "ended_at", "started": "started_at", "best.AP": "best.AP",
    "last.loss": "best.loss", "loss": "best.loss", "AP": "best.AP",
}  # fmt: skip


def reference(jobs: list[dict[str, Any]], sort: str) -> list[str]:
    """The ids in order: sorted by the last key first, each sort stable, those without a value always last."""
    keys = sort.split(",")
    jobs = sorted(jobs, key=lambda job: job["id"], reverse=keys[-1].startswith("-"))
    for key in reversed(keys):
        name, down = key.lstrip("-"), key.startswith("-")

        def value(job: dict[str, Any], name: str = name) -> Any:
            if name == "duration":
                return None if job["ended_at"] is None else job["ended_at"] - job["started_at"]
            return job.get(COLUMNS.get(name, name))

        there = [job for job in jobs if value(job) is not None]
        jobs = sorted(there, key=value, reverse=down) + [job for job in jobs if value(job) is None]
    return [job["id"] for job in jobs]


SORTS = (
    "created", "-created", "name", "-name", "state", "-state", "priority", "-priority", "step", "seed", "group",
    "-group", "ended", "-ended", "-started", "duration", "-duration", "best.AP", "-best.AP", "-AP", "last.loss",
    "-last.loss", "loss", "id", "name,-created", "-best.AP,name", "best.AP,-last.loss", "-group,best.AP",
    "state,-best.AP,-created", "name,ended", "-group,name",
)  # fmt: skip


def test_an_order_is_total_with_missing_values_last_and_pages_follow_it(
    client: TestClient, many: list[dict[str, Any]]
) -> None:
    for sort in SORTS:
        expected = reference(many, sort)
        assert walk(client, sort=sort, limit=7) == expected, sort
        assert walk(client, sort=sort, limit=200) == expected, sort


@pytest.mark.parametrize("sort", ["-created", "-best.AP", "name,-created", "ended"])
def test_pages_repeat_and_miss_nothing_while_jobs_come_and_go(
    client: TestClient, many: list[dict[str, Any]], sort: str
) -> None:
    draw = random.Random(1)
    gone: set[str] = set()

    def change() -> None:
        add(client, name=draw.choice("abc"), created_at=1001.0, metrics={"AP": draw.choice([1.0, 2.0])})
        with client.app.state.db.write() as session:
            left = [job["id"] for job in many if job["id"] not in gone and not job.keys() & {"best.AP", "best.loss"}]
            if left:
                session.delete(session.get_one(Job, draw.choice(left)))
                session.flush()
            gone.update(id for id in left if session.get(Job, id) is None)

    seen = walk(client, sort=sort, limit=3, between=change)
    assert len(seen) == len(set(seen))
    stayed = [id for id in reference(many, sort) if id not in gone]
    assert [id for id in seen if id in set(stayed)] == stayed


def test_a_metric_that_is_sorted_by_is_shown(client: TestClient) -> None:
    add(client, metrics={"AP": 3.0, "loss": 1.0})
    assert page(client, sort="-best.AP", metrics="loss")["items"][0]["metrics"].keys() == {"AP", "loss"}


@pytest.mark.parametrize(
    ("sort", "said"),
    [
        ("", "cannot be sorted by"),
        ("-", "cannot be sorted by"),
        ("creatd", "use created"),
        ("tag", "cannot be sorted by"),
        ("name,-name", "name is given twice"),
        ("name,seed,step,state", "at most 3 keys"),
        ("best.", "cannot be sorted by"),
        ("name;drop table jobs", "cannot be sorted by"),
    ],
)
def test_an_order_that_there_is_not_is_refused(client: TestClient, sort: str, said: str) -> None:
    response = client.get(JOBS, params={"sort": sort})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "?sort")
    assert said in response.json()["detail"]


# ------------------------------------------------------------------------------------------------- cursors


@pytest.mark.parametrize("cursor", ["x", "AAAA", "bnVsbA", "WzEsMl0", "ü", "a" * 400, "W10", "e30"])
def test_a_foreign_cursor_is_refused(client: TestClient, cursor: str) -> None:
    response = client.get(JOBS, params={"cursor": cursor})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "?cursor")


def test_a_cursor_of_another_filter_order_or_state_is_refused(client: TestClient) -> None:
    for _ in range(3):
        add(client, metrics={"AP": 1.0})
    cursor = page(client, limit=1, filter="name:run", sort="-best.AP")["next_cursor"]
    assert client.get(JOBS, params={"cursor": cursor, "filter": "name:run", "sort": "-AP"}).status_code == 200
    for other in (
        {},
        {"filter": "name:run"},
        {"filter": "name:ru", "sort": "-best.AP"},
        {"filter": "name:run", "sort": "best.AP"},
        {"filter": "name:run", "sort": "-last.AP"},
        {"filter": "name:run", "sort": "-best.AP", "state": "succeeded"},
    ):
        response = client.get(JOBS, params={"cursor": cursor, **other})
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "?cursor"), other


@pytest.mark.parametrize("name", ["n" * 200, "ü𝄞" * 100, "tab\tand\nline", '"]}\\'])
def test_any_name_can_be_the_place_of_a_cursor(client: TestClient, name: str) -> None:
    for number in range(3):
        add(client, name=name, seed=number)
    assert len(set(walk(client, sort="name,-seed", limit=1))) == 3


# ------------------------------------------------------------------------------------ counts, fields, scope


def test_counts_are_by_state_and_follow_the_filter(client: TestClient) -> None:
    for state, seed in (("failed", 0), ("failed", 1), ("succeeded", 1)):
        add(client, state=state, seed=seed)
    assert client.get(f"{JOBS}:count").json() == {"total": 3, "by_state": {"failed": 2, "succeeded": 1}}
    assert client.get(f"{JOBS}:count", params={"filter": "seed:1"}).json()["by_state"] == {"failed": 1, "succeeded": 1}
    assert client.get(f"{JOBS}:count", params={"state": "failed"}).json()["total"] == 2
    assert client.get(f"{JOBS}:count", params={"filter": "seed:9"}).json() == {"total": 0, "by_state": {}}


def test_the_fields_that_filters_understand_are_listed_and_all_work(client: TestClient) -> None:
    add(client, metrics={"AP": 1.0, "AP/red cell": 2.0})
    answer = client.get("/api/v1/filter-fields").json()
    assert answer["metrics"] == ["AP", "AP/red cell"]
    for one in answer["fields"]:
        assert client.get(JOBS, params={"filter": one["example"]}).status_code == 200, one
        assert client.get(JOBS, params={"sort": one["name"]}).status_code == (200 if one["sortable"] else 422), one
        for choice in one["choices"]:
            assert client.get(JOBS, params={"filter": f"{one['name']}:{choice}"}).status_code == 200


def test_lists_counts_and_fields_know_only_the_callers_projects(client: TestClient) -> None:
    add(client, name="mine", project_id="mine", metrics={"AP/mine": 1.0})
    add(client, name="theirs", project_id="theirs", metrics={"AP/theirs": 1.0})
    token = make_user(client, "ann", "viewer", project="mine", scope="read")
    assert names(client) == ["theirs", "mine"]
    client.headers.update(bearer(token))
    assert (
        names(client)
        == names(client, sort="-AP/theirs")
        == names(client, filter="-AP/theirs>5 or project:*")
        == ["mine"]
    )
    assert names(client, filter="project:theirs") == []
    assert client.get(f"{JOBS}:count").json()["total"] == 1
    assert client.get("/api/v1/filter-fields").json()["metrics"] == ["AP/mine"]
