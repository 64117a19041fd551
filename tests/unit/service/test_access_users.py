"""Users: made and disabled by administrators, of whom one always remains."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from service.access import users
from service.access.schemas import UserPatch
from service.errors import Problem
from service.models import User
from tests.helpers.api import ROOT, bearer, make_token, make_user

URL = "/api/v1/users"


def test_the_first_user_is_an_administrator(client: TestClient) -> None:
    (admin,) = client.get(URL).json()["items"]
    assert (admin["name"], admin["is_admin"], admin["disabled_at"]) == ("admin", True, None)


def test_me_tells_what_a_token_may_do(client: TestClient) -> None:
    me = client.get("/api/v1/me").json()
    assert (me["user"], me["is_admin"], me["roles"]) == ("admin", True, {"default": "admin"})
    assert (me["token"]["name"], me["token"]["scope"]) == ("first token", "admin")
    reader = client.get("/api/v1/me", headers=bearer(make_token(client, scope="read"))).json()
    assert (reader["is_admin"], reader["roles"]) == (False, {"default": "viewer"})
    ann = client.get("/api/v1/me", headers=bearer(make_user(client, "ann", "editor", scope="write"))).json()
    assert (ann["user"], ann["is_admin"], ann["roles"]) == ("ann", False, {"default": "editor"})


def test_a_name_that_is_not_plain_is_refused(client: TestClient) -> None:
    for name in ["", "Ann", "a b", "../x", "a/b", "\u0430nn", "ann\u200b", "x" * 101, "<b>", "a\x00"]:
        assert client.post(URL, json={"name": name}).status_code in (400, 422)


def test_a_name_is_taken_once(client: TestClient) -> None:
    make_user(client, "ann@example.org")
    assert client.post(URL, json={"name": "ann@example.org"}).status_code == 409


def test_a_disabled_user_is_out_at_once_and_comes_back(client: TestClient) -> None:
    token = bearer(make_user(client, "ann", "viewer"))
    assert client.get("/api/v1/jobs", headers=token).status_code == 200
    assert client.patch(f"{URL}/ann", json={"disabled": True}).json()["disabled_at"] is not None
    refused = client.get("/api/v1/jobs", headers=token)
    assert refused.status_code == 401
    assert "disabled" in refused.json()["detail"]
    client.patch(f"{URL}/ann", json={"disabled": False})
    assert client.get("/api/v1/jobs", headers=token).status_code == 200


def test_an_administrator_is_made_and_unmade(client: TestClient) -> None:
    token = bearer(make_user(client, "ann"))
    assert client.get(URL, headers=token).status_code == 403
    assert client.patch(f"{URL}/ann", json={"is_admin": True}).json()["is_admin"] is True
    assert client.get(URL, headers=token).status_code == 200
    client.patch(f"{URL}/ann", json={"is_admin": False})
    assert client.get(URL, headers=token).status_code == 403


@pytest.mark.parametrize("change", [{"disabled": True}, {"is_admin": False}])
def test_the_last_administrator_stays(client: TestClient, change: dict[str, bool]) -> None:
    response = client.patch(f"{URL}/admin", json=change)
    assert response.status_code == 409
    assert "last administrator" in response.json()["detail"]
    assert client.get(URL).status_code == 200
    make_user(client, "ann")
    client.patch(f"{URL}/ann", json={"is_admin": True})
    assert client.patch(f"{URL}/admin", json=change).status_code == 200


def test_a_disabled_administrator_does_not_count_as_one(client: TestClient) -> None:
    make_user(client, "ann")
    client.patch(f"{URL}/ann", json={"is_admin": True})
    client.patch(f"{URL}/ann", json={"disabled": True})
    assert client.patch(f"{URL}/admin", json={"disabled": True}).status_code == 409


def test_administrators_that_disable_each_other_at_once_leave_one(client: TestClient) -> None:
    names = ["admin", "ann", "ben", "cid"]
    for name in names[1:]:
        make_user(client, name)
        client.patch(f"{URL}/{name}", json={"is_admin": True})
    db = client.app.state.db
    refused: list[int] = []

    def disable(name: str) -> None:
        try:
            with db.write() as session:
                users.change(session, ROOT, name, UserPatch(disabled=True))
        except Problem as problem:
            refused.append(problem.status)

    threads = [threading.Thread(target=disable, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as session:
        able = session.scalars(select(User.name).where(User.is_admin, User.disabled_at.is_(None))).all()
    assert (len(able), refused) == (1, [409])


def test_an_unknown_user_is_404(client: TestClient) -> None:
    assert client.patch(f"{URL}/nobody", json={"disabled": True}).status_code == 404
