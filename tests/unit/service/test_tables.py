"""Tables to reproduce: which cells are there, what is submitted, and how rows compare with published figures."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.helpers.api import bearer, end_job, finish, make_token, tiny_spec

TINY = tiny_spec()
BIG = {"backbone": "tiny", "width": 8, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]}


def manifest(client: TestClient, **changes: Any) -> dict[str, Any]:
    jobs = client.get("/api/v1/jobs", params={"filter": "name=teacher"}).json()["items"]
    teacher = jobs[0]["id"] if jobs else finish(client, tiny_spec(name="teacher", student=BIG), 50.0)
    return {
        "name": "table 2",
        "job": {"data": deepcopy(TINY["data"]), "schedule": deepcopy(TINY["schedule"])},
        "teacher": {"job": teacher},
        "students": {"tiny": TINY["student"]},
        "methods": {"labels": [], "bckd": [{"type": "bckd"}]},
        "seeds": [0, 1, 2],
        "published": {"tiny": {"labels": 30.0, "bckd": 36.0}},
        "tolerance": 1.0,
        **changes,
    }


def keep(client: TestClient, status: int = 201, **changes: Any) -> dict[str, Any]:
    response = client.post("/api/v1/tables", json=manifest(client, **changes))
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


def look(client: TestClient, table: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(f"/api/v1/tables/{table}").json()
    return answer


def submit(client: TestClient, table: str) -> dict[str, Any]:
    response = client.post(f"/api/v1/tables/{table}/submit")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def run_all(client: TestClient, table: dict[str, Any], aps: dict[tuple[str, int], float]) -> None:
    for cell in look(client, table["id"])["cells"]:
        if cell["state"] == "under way":
            end_job(client, cell["job_id"], aps[cell["method"], cell["seed"]])


APS = {("labels", s): ap for s, ap in enumerate((30.0, 30.6, 30.9))} | {
    ("bckd", s): ap for s, ap in enumerate((33.0, 33.5, 34.0))
}


def test_cells_that_are_missing_are_submitted_and_no_others(client: TestClient) -> None:
    table = keep(client)
    assert table["counts"] == {"done": 0, "under way": 0, "failed": 0, "stale": 0, "missing": 6}
    first = submit(client, table["id"])
    assert (len(first["job_ids"]), first["left"]) == (6, 0)
    assert submit(client, table["id"]) == {"job_ids": [], "left": 6}
    jobs = client.get("/api/v1/jobs", params={"filter": 'group:"table table 2"'}).json()["items"]
    assert sorted((job["name"], job["seed"], job["methods"]) for job in jobs) == sorted(
        (f"table 2: tiny / {method}", seed, blocks)
        for method, blocks in (("labels", []), ("bckd", ["bckd"]))
        for seed in range(3)
    )
    run_all(client, table, APS)
    assert look(client, table["id"])["counts"]["done"] == 6


def test_rows_compare_means_and_gains_with_what_is_published(client: TestClient) -> None:
    table = keep(client)
    submit(client, table["id"])
    run_all(client, table, APS)
    labels, bckd = look(client, table["id"])["rows"]
    assert (labels["n"], labels["mean"], labels["verdict"]) == (3, pytest.approx(30.5), "reproduced")
    assert labels["difference"] == pytest.approx(0.5)
    assert labels["gain"] is None
    assert (bckd["mean"], bckd["published"], bckd["verdict"]) == (pytest.approx(33.5), 36.0, "below")
    assert bckd["gain"] == pytest.approx(3.0)
    assert bckd["gain_low"] < 3.0 < bckd["gain_high"]
    assert bckd["published_gain"] == pytest.approx(6.0)
    assert bckd["low"] < 33.5 < bckd["high"]


def test_two_seeds_reproduce_nothing(client: TestClient) -> None:
    table = keep(client, seeds=[0, 1])
    submit(client, table["id"])
    run_all(client, table, APS)
    labels, _ = look(client, table["id"])["rows"]
    assert (labels["mean"], labels["difference"]) == (pytest.approx(30.3), pytest.approx(0.3))
    assert labels["verdict"] == "not enough seeds"


def test_a_changed_manifest_makes_stale_what_it_changes(client: TestClient) -> None:
    table = keep(client)
    submit(client, table["id"])
    run_all(client, table, APS)
    changed = keep(client, 200, methods={"labels": [], "bckd": [{"type": "bckd", "cls_weight": 2.0}]})
    assert changed["id"] == table["id"]
    assert changed["counts"] == {"done": 3, "under way": 0, "failed": 0, "stale": 3, "missing": 0}
    assert changed["rows"][1]["verdict"] == "no run yet"  # what is stale says nothing about this manifest
    more = submit(client, table["id"])
    assert (len(more["job_ids"]), more["left"]) == (3, 3)
    back = keep(client, 200)
    assert back["counts"]["done"] == 6  # the earlier jobs fill these cells again


def test_more_seeds_are_only_those(client: TestClient) -> None:
    table = keep(client)
    submit(client, table["id"])
    keep(client, 200, seeds=[0, 1, 2, 3])
    assert len(submit(client, table["id"])["job_ids"]) == 2


def test_a_failed_cell_says_why_and_is_tried_again_once(client: TestClient) -> None:
    table = keep(client, methods={"labels": []}, seeds=[0], published={})
    (job,) = submit(client, table["id"])["job_ids"]
    end_job(client, job, None)
    (cell,) = look(client, table["id"])["cells"]
    assert (cell["state"], cell["cause"]) == ("failed", "the loss is not finite")
    (again,) = submit(client, table["id"])["job_ids"]
    assert again != job
    assert submit(client, table["id"])["job_ids"] == []
    assert look(client, table["id"])["rows"][0]["verdict"] == "no run yet"


def test_a_job_of_another_group_is_no_cell(client: TestClient) -> None:
    spec = {**tiny_spec(name="table 2: tiny / labels", seed=0)}
    finish(client, spec, 30.0)
    assert keep(client)["counts"]["missing"] == 6


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"students": {}}, "/students"),
        ({"seeds": [0, 0]}, ""),
        ({"metric": "mAP"}, ""),
        ({"published": {"huge": {"labels": 1.0}}}, ""),
        ({"teacher": None}, ""),
        ({"job": {"name": "mine"}}, ""),
        ({"job": {"data": {"type": "nothing"}}}, "/job/data"),
        ({"students": {"tiny": {"backbone": "nothing"}}}, "/students/tiny/backbone"),
        ({"methods": {"bad": [{"type": "bckd", "cls_weight": -1}]}, "published": {}}, "/methods/bad/0/cls_weight"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_a_manifest_that_is_wrong_says_where(client: TestClient, changes: dict[str, Any], pointer: str) -> None:
    answer = keep(client, 422, **changes)
    assert [one["pointer"] for one in answer["errors"]][:1] == [pointer], answer
    assert client.get("/api/v1/tables").json()["items"] == []


def test_a_cell_that_would_be_refused_is_named_and_none_is_submitted(client: TestClient) -> None:
    pair = {"labels": [], "ld": [{"type": "ld"}]}
    table = keep(client, students={"other bins": {**TINY["student"], "reg_max": 7}}, methods=pair, published={})
    response = client.post(f"/api/v1/tables/{table['id']}/submit")
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["pointer"] == "/methods/ld/0"
    assert fault["detail"].startswith("other bins / ld: ld: it compares distributions bin by bin")
    assert look(client, table["id"])["counts"]["missing"] == 6


def test_a_table_is_forgotten_and_its_jobs_stay(client: TestClient) -> None:
    table = keep(client)
    submit(client, table["id"])
    assert [one["name"] for one in client.get("/api/v1/tables").json()["items"]] == ["table 2"]
    assert client.delete(f"/api/v1/tables/{table['id']}").status_code == 204
    assert client.get(f"/api/v1/tables/{table['id']}").status_code == 404
    assert client.get("/api/v1/jobs:count").json()["total"] == 7


def test_views_are_kept_under_short_ids(client: TestClient) -> None:
    address = "/compare?runs=a,b&tab=curves"
    made = client.post("/api/v1/views", json={"name": "for the paper", "address": address})
    assert made.status_code == 201
    view = made.json()
    assert client.get(f"/api/v1/views/{view['id']}").json()["address"] == address
    assert [one["name"] for one in client.get("/api/v1/views").json()["items"]] == ["for the paper"]
    reader = bearer(make_token(client, scope="read"))
    assert client.post("/api/v1/views", json={"name": "x", "address": "/"}, headers=reader).status_code == 403
    assert client.delete(f"/api/v1/views/{view['id']}").status_code == 204
    assert client.get(f"/api/v1/views/{view['id']}").status_code == 404


@pytest.mark.parametrize(
    "address",
    ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere", "javascript:alert(1)", "jobs", "/a b", ""],
)
def test_a_view_leads_nowhere_else(client: TestClient, address: str) -> None:
    assert client.post("/api/v1/views", json={"name": "x", "address": address}).status_code == 422
