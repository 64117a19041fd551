"""The record of who did or tried what: complete, readable by administrators, and only ever longer."""

from __future__ import annotations

from typing import Any

from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from tests.helpers.api import bearer, make_project, make_token, make_user, submit

URL = "/api/v1/audit"


def rows(client: TestClient, token: str | None = None, **params: Any) -> list[dict[str, Any]]:
    response = client.get(URL, params=params, headers=bearer(token) if token else {})
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def test_each_change_of_access_is_recorded_with_who_and_whence(client: TestClient) -> None:
    headers = {"X-Request-Id": "req-1"}
    client.post("/api/v1/projects", json={"id": "cells", "max_jobs": 2}, headers=headers)
    client.patch("/api/v1/projects/cells", json={"max_jobs": 4})
    client.post("/api/v1/users", json={"name": "ann"})
    client.patch("/api/v1/users/ann", json={"disabled": True})
    client.put("/api/v1/projects/cells/members/ann", json={"role": "editor"})
    client.put("/api/v1/projects/cells/members/ann", json={"role": "editor"})  # no change, no row
    client.delete("/api/v1/projects/cells/members/ann")
    made = client.post("/api/v1/tokens", json={"name": "x", "scope": "read"}).json()
    client.delete(f"/api/v1/tokens/{made['id']}")
    newest_first = rows(client)
    told = [(row["action"], row["target"], row["project"]) for row in reversed(newest_first)][1:]
    assert told == [
        ("project.create", "cells", "cells"),
        ("project.update", "cells", "cells"),
        ("user.create", "ann", None),
        ("user.update", "ann", None),
        ("member.set", "ann", "cells"),
        ("member.remove", "ann", "cells"),
        ("token.create", made["id"], None),
        ("token.revoke", made["id"], None),
    ]
    by_action = {row["action"]: row for row in newest_first}
    assert by_action["project.create"]["request_id"] == "req-1"
    assert by_action["project.update"]["data"] == {"max_jobs": 4}
    assert by_action["user.update"]["data"] == {"disabled": True}
    assert by_action["member.set"]["data"] == {"from": None, "to": "editor"}
    for row in newest_first[:-1]:
        assert (row["actor"], row["address"]) == ("admin", "testclient")
        assert row["token_id"].startswith("tok_")
    assert made["token"] not in str(newest_first)


def test_what_people_do_to_jobs_is_recorded_once(client: TestClient) -> None:
    job = submit(client)["id"]
    url = f"/api/v1/jobs/{job}"
    for verb in ("pause", "pause", "resume", "resume", "cancel", "cancel"):
        assert client.post(f"{url}/{verb}").is_success or verb == "resume"
    assert client.patch(url, json={"tags": ["night"]}).status_code == 200
    copy = client.post(f"{url}/clone", json={"seed": 3}).json()["id"]
    told = [(row["action"], row["target"], row["project"]) for row in reversed(rows(client))][1:]
    actions = ("job.submit", "job.pause", "job.resume", "job.cancel", "job.change")
    assert told == [*((action, job, "default") for action in actions), ("job.clone", copy, "default")]
    assert rows(client, action="job.clone")[0]["data"] == {"parent_id": job}
    assert rows(client, action="job.change")[0]["data"] == {"tags": ["night"]}


def test_the_first_token_is_recorded_too(client: TestClient) -> None:
    (row,) = rows(client)
    assert (row["action"], row["actor"], row["data"]["from"]) == ("token.create", "-", "run/api-token")


def test_what_is_refused_to_a_known_caller_is_recorded(client: TestClient) -> None:
    token = make_user(client, "ann", "viewer")
    job = submit(client)
    path = f"/api/v1/jobs/{job['id']}/cancel"
    assert client.post(path, headers=bearer(token)).status_code == 403
    (row,) = rows(client, action="access.denied")
    assert (row["actor"], row["target"]) == ("ann", f"POST {path}")


def test_many_refusals_of_one_token_do_not_fill_the_record(client: TestClient) -> None:
    token = bearer(make_user(client, "ann", "viewer"))
    for _ in range(30):
        assert client.get("/api/v1/users", headers=token).status_code == 403
    assert len(rows(client, action="access.denied", limit=200)) == 20


def test_a_failed_change_is_not_recorded_as_done(client: TestClient) -> None:
    assert client.patch("/api/v1/users/admin", json={"disabled": True}).status_code == 409
    assert client.post("/api/v1/projects", json={"id": "default"}).status_code == 409
    assert [row["action"] for row in rows(client)] == ["token.create"]


def test_the_record_can_be_narrowed(client: TestClient) -> None:
    make_project(client, "cells")
    make_user(client, "ann", "viewer", project="cells")
    assert {row["action"] for row in rows(client, project="cells")} == {"project.create", "member.set"}
    assert {row["target"] for row in rows(client, target="ann")} == {"ann"}
    assert rows(client, actor="nobody") == []
    moments = [row["time"] for row in rows(client)]
    assert [row["time"] for row in rows(client, since=moments[1])] == moments[:2]
    assert [row["time"] for row in rows(client, until=moments[1])] == moments[2:]
    assert len(rows(client, action="user.create", actor="admin", target="ann")) == 1


def test_pages_follow_each_other_while_rows_are_added(client: TestClient) -> None:
    for n in range(6):
        make_project(client, f"p{n}")
    first = client.get(URL, params={"limit": 3}).json()
    make_project(client, "later")
    second = client.get(URL, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    targets = [row["target"] for row in first["items"] + second["items"]]
    assert targets == ["p5", "p4", "p3", "p2", "p1", "p0"]
    last = client.get(URL, params={"cursor": second["next_cursor"]}).json()
    assert ([row["action"] for row in last["items"]], last["next_cursor"]) == (["token.create"], None)


def test_a_wrong_question_is_named(client: TestClient) -> None:
    for params in [{"cursor": "x"}, {"cursor": "-1"}, {"limit": 0}, {"since": "nan"}, {"since": "inf"}]:
        assert client.get(URL, params=params).status_code == 422


def test_administrators_of_a_project_read_the_rows_of_their_project(client: TestClient) -> None:
    make_project(client, "cells")
    make_project(client, "roads")
    admin = make_user(client, "ann", "admin", project="cells")
    assert {row["project"] for row in rows(client, admin)} == {"cells"}
    assert client.get(URL, params={"project": "roads"}, headers=bearer(admin)).status_code == 404
    editor = make_user(client, "ben", "editor", project="cells")
    for token in (editor, make_token(client, scope="write"), make_token(client, scope="read")):
        assert client.get(URL, headers=bearer(token)).status_code == 403
    assert {row["project"] for row in rows(client, make_token(client, project="roads"))} == {"roads"}


def test_no_route_changes_or_removes_rows(client: TestClient) -> None:
    for context in iter_route_contexts(client.app.routes):
        if "audit" in str(context.path):
            assert context.methods == {"GET"}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.request(method, URL).status_code == 405
        assert client.request(method, f"{URL}/1").status_code in (404, 405)
