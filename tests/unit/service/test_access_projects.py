"""Projects and their members: who sees them, who describes them, who limits them."""

from __future__ import annotations

from starlette.testclient import TestClient

from tests.helpers.api import bearer, make_project, make_token, make_user, submit, tiny_spec

URL = "/api/v1/projects"


def test_a_new_installation_has_one_project_without_limits(client: TestClient) -> None:
    (project,) = client.get(URL).json()["items"]
    assert (project["id"], project["max_jobs"], project["max_gpus"], project["role"]) == (
        "default",
        None,
        None,
        "admin",
    )


def test_a_project_keeps_what_it_was_made_with(client: TestClient) -> None:
    body = {"id": "cells", "description": "Cells <b>of</b> blood", "max_jobs": 3, "max_gpus": 1.5}
    made = client.post(URL, json=body)
    assert made.status_code == 201
    shown = client.get(f"{URL}/cells").json()
    assert shown == made.json()
    assert {key: shown[key] for key in body} == body


def test_an_id_that_is_not_plain_is_refused(client: TestClient) -> None:
    for id in ["", "Cells", "-a", "a_b", "a/b", "..", "a" * 41, "ä", "\u0430bc", "a\n", "default "]:
        response = client.post(URL, json={"id": id})
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/id"


def test_a_wrong_value_is_named(client: TestClient) -> None:
    for change, pointer in [
        ({"max_jobs": -1}, "/max_jobs"),
        ({"max_jobs": "3"}, "/max_jobs"),
        ({"max_jobs": 1.5}, "/max_jobs"),
        ({"max_gpus": -0.5}, "/max_gpus"),
        ({"colour": "red"}, "/colour"),
        ({"description": "x" * 2001}, "/description"),
    ]:
        for response in (client.post(URL, json={"id": "cells", **change}), client.patch(f"{URL}/default", json=change)):
            assert response.status_code == 422
            assert response.json()["errors"][0]["pointer"] == pointer


def test_an_id_is_taken_once(client: TestClient) -> None:
    make_project(client, "cells")
    response = client.post(URL, json={"id": "cells"})
    assert response.status_code == 409
    assert "'cells'" in response.json()["detail"]


def test_a_change_leaves_the_rest_as_it_was(client: TestClient) -> None:
    make_project(client, "cells", description="old", max_jobs=3)
    assert client.patch(f"{URL}/cells", json={"max_gpus": 2}).json()["max_gpus"] == 2
    shown = client.patch(f"{URL}/cells", json={"description": "new", "max_jobs": None}).json()
    assert (shown["description"], shown["max_jobs"], shown["max_gpus"]) == ("new", None, 2)


def test_members_see_their_projects_only(client: TestClient) -> None:
    make_project(client, "cells")
    make_project(client, "roads")
    token = bearer(make_user(client, "ann", "viewer", project="cells"))
    (project,) = client.get(URL, headers=token).json()["items"]
    assert (project["id"], project["role"]) == ("cells", "viewer")
    assert client.get(f"{URL}/cells", headers=token).status_code == 200
    for missing in ("roads", "default", "nothing"):
        response = client.get(f"{URL}/{missing}", headers=token)
        assert (response.status_code, response.json()["detail"]) == (404, f"there is no project '{missing}'")


def test_lists_go_on_behind_their_cursor(client: TestClient) -> None:
    for n in range(5):
        make_project(client, f"p{n}")
    seen, cursor = [], None
    for _ in range(3):
        page = client.get(URL, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (["default", "p0", "p1", "p2", "p3", "p4"], None)


def test_a_project_admin_describes_it_but_does_not_lift_its_quota(client: TestClient) -> None:
    make_project(client, "cells", max_jobs=1)
    ann = bearer(make_user(client, "ann", "admin", project="cells"))
    assert client.patch(f"{URL}/cells", json={"description": "ours"}, headers=ann).json()["description"] == "ours"
    refused = client.patch(f"{URL}/cells", json={"description": "x", "max_jobs": 100}, headers=ann)
    assert refused.status_code == 403
    shown = client.get(f"{URL}/cells").json()
    assert (shown["description"], shown["max_jobs"]) == ("ours", 1)


def test_a_role_can_be_given_changed_and_taken(client: TestClient) -> None:
    ann = bearer(make_user(client, "ann"))
    member = f"{URL}/default/members/ann"
    job = submit(client)
    look, run = f"/api/v1/jobs/{job['id']}", f"/api/v1/jobs/{job['id']}/cancel"
    assert client.get(look, headers=ann).status_code == 404
    client.put(member, json={"role": "viewer"})
    assert client.get(look, headers=ann).status_code == 200
    assert client.post(run, headers=ann).status_code == 403
    client.put(member, json={"role": "editor"})
    assert client.post(run, headers=ann).status_code == 200
    assert client.get(f"{URL}/default/members").json()["items"] == [{"user": "ann", "role": "editor"}]
    assert client.delete(member).status_code == 204
    assert client.get(look, headers=ann).status_code == 404
    assert client.delete(member).status_code == 404


def test_a_project_admin_adds_members_of_that_project_alone(client: TestClient) -> None:
    make_project(client, "cells")
    ann = bearer(make_user(client, "ann", "admin", project="cells"))
    make_user(client, "ben", "viewer")
    assert client.put(f"{URL}/cells/members/ben", json={"role": "admin"}, headers=ann).status_code == 200
    assert client.put(f"{URL}/default/members/ann", json={"role": "viewer"}, headers=ann).status_code == 404
    assert client.put(f"{URL}/cells/members/nobody", json={"role": "viewer"}, headers=ann).status_code == 404
    assert client.put(f"{URL}/cells/members/ben", json={"role": "owner"}, headers=ann).status_code == 422


def test_jobs_go_into_the_project_that_is_named(client: TestClient) -> None:
    make_project(client, "cells")
    token = bearer(make_user(client, "ann", "editor", project="cells"))
    url = "/api/v1/jobs"
    assert client.post(url, params={"project": "cells"}, json=tiny_spec(), headers=token).status_code == 201
    assert client.post(url, json=tiny_spec(), headers=token).status_code == 404  # `default` is not hers
    assert len(client.get(url, headers=token).json()["items"]) == 1


def test_a_token_for_one_project_sees_that_one(client: TestClient) -> None:
    make_project(client, "cells")
    only = bearer(make_token(client, project="cells"))
    assert [p["id"] for p in client.get(URL, headers=only).json()["items"]] == ["cells"]
    assert client.get(f"{URL}/default", headers=only).status_code == 404
    assert client.post(URL, json={"id": "more"}, headers=only).status_code == 403
