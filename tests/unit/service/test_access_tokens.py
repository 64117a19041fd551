"""Tokens: shown once, kept as a hash, and never a way to more than their maker has."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from service.models import Token
from service.settings import Settings
from tests.helpers.api import bearer, make_client, make_project, make_token, make_user

URL = "/api/v1/tokens"


def _make(client: TestClient, token: str | None = None, **fields: Any) -> Any:
    headers = bearer(token) if token else {}
    return client.post(URL, json={"name": "test", "scope": "read", **fields}, headers=headers)


def test_a_secret_is_recognisable_long_and_shown_once(client: TestClient, settings: Settings) -> None:
    made = _make(client, name="night runs")
    secret = made.json()["token"]
    assert re.fullmatch(r"bcd_[A-Za-z0-9_-]{43}", secret)  # 32 random bytes
    assert made.headers["Cache-Control"] == "no-store"
    listed = client.get(URL)
    assert "night runs" in listed.text
    assert secret not in listed.text
    with client.app.state.db.read() as session:
        for row in session.scalars(select(Token)):
            assert secret not in repr([getattr(row, column.key) for column in Token.__table__.columns])
    if settings.database_url.startswith("sqlite"):
        files = Path(settings.home).glob("bcd.db*")
        assert not any(secret.encode() in file.read_bytes() for file in files)


def test_secrets_differ(client: TestClient) -> None:
    assert len({make_token(client) for _ in range(20)}) == 20


def test_the_last_use_is_noted(client: TestClient) -> None:
    made = _make(client).json()
    assert made["last_used_at"] is None
    client.get("/api/v1/me", headers=bearer(made["token"]))
    (row,) = [item for item in client.get(URL).json()["items"] if item["id"] == made["id"]]
    assert abs(row["last_used_at"] - time.time()) < 60


def test_a_revoked_token_lets_nobody_in_and_says_so(client: TestClient) -> None:
    made = _make(client).json()
    headers = bearer(made["token"])
    assert client.get("/api/v1/me", headers=headers).status_code == 200
    assert client.delete(f"{URL}/{made['id']}").status_code == 204
    assert client.delete(f"{URL}/{made['id']}").status_code == 204
    refused = client.get("/api/v1/me", headers=headers)
    assert (refused.status_code, "revoked" in refused.json()["detail"]) == (401, True)


def test_an_expired_token_lets_nobody_in_and_says_so(client: TestClient) -> None:
    made = _make(client, expires_in=3600).json()
    assert abs(made["expires_at"] - time.time() - 3600) < 60
    with client.app.state.db.write() as session:
        session.get(Token, made["id"]).expires_at = time.time() - 1
    refused = client.get("/api/v1/me", headers=bearer(made["token"]))
    assert (refused.status_code, "expired" in refused.json()["detail"]) == (401, True)


def test_a_wrong_value_is_named(client: TestClient) -> None:
    for fields, pointer in [
        ({"name": ""}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"scope": "root"}, "/scope"),
        ({"expires_in": 0}, "/expires_in"),
        ({"expires_in": 1e12}, "/expires_in"),
        ({"expires_at": 1000.0}, "/expires_at"),
        ({"expires_at": 1e300}, "/expires_at"),
        ({"expires_in": 60, "expires_at": 4e9}, "/expires_at"),
        ({"sha256": "0" * 64}, "/sha256"),
        ({"type": "session"}, "/type"),
    ]:
        response = _make(client, **fields)
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == pointer


def test_a_token_makes_no_token_that_may_do_more(client: TestClient) -> None:
    for own, wanted, status in [
        ("admin", "admin", 201),
        ("admin", "read", 201),
        ("write", "write", 201),
        ("write", "read", 201),
        ("write", "admin", 403),
        ("read", "read", 403),  # who may only read leaves nothing behind
        ("read", "write", 403),
    ]:
        assert _make(client, make_token(client, scope=own), scope=wanted).status_code == status


def test_a_token_for_one_project_makes_tokens_for_that_project(client: TestClient) -> None:
    make_project(client, "cells")
    only = make_token(client, project="cells")
    assert _make(client, only, project="cells").status_code == 201
    assert _make(client, only).status_code == 403
    assert _make(client, only, project="default").status_code == 403


def test_a_token_for_a_foreign_project_cannot_be_made(client: TestClient) -> None:
    make_project(client, "cells")
    ann = make_user(client, "ann", "editor")
    assert _make(client, ann, project="default").status_code == 201
    for missing in ("cells", "nothing"):
        assert _make(client, ann, project=missing).status_code == 404
    assert _make(client, project="nothing").status_code == 404


def test_a_token_makes_no_token_that_lives_longer(client: TestClient) -> None:
    short = make_token(client, expires_in=3600)
    assert _make(client, short, expires_in=1800).status_code == 201
    assert _make(client, short, expires_in=7200).status_code == 403
    refused = _make(client, short)
    assert (refused.status_code, "expires_at" in refused.json()["detail"]) == (403, True)


def test_administrators_make_tokens_for_others_and_others_do_not(client: TestClient) -> None:
    ann = make_user(client, "ann", "editor")
    made = _make(client, user="ann").json()
    assert client.get("/api/v1/me", headers=bearer(made["token"])).json()["user"] == "ann"
    assert _make(client, ann, user="admin").status_code == 403
    assert _make(client, ann, user="ann").status_code == 201
    assert _make(client, user="nobody").status_code == 404
    client.patch("/api/v1/users/ann", json={"disabled": True})
    assert _make(client, user="ann").status_code == 409


def test_users_see_and_revoke_their_own_tokens_and_administrators_all(client: TestClient) -> None:
    ann, ben = make_user(client, "ann", "viewer"), make_user(client, "ben", "viewer")
    (hers,) = client.get(URL, headers=bearer(ann)).json()["items"]
    assert (hers["user"], hers["type"]) == ("ann", "api")
    assert client.get(URL, params={"user": "ann"}, headers=bearer(ben)).status_code == 403
    assert client.delete(f"{URL}/{hers['id']}", headers=bearer(ben)).status_code == 404
    assert [item["id"] for item in client.get(URL, params={"user": "ann"}).json()["items"]] == [hers["id"]]
    assert client.delete(f"{URL}/{hers['id']}").status_code == 204
    assert client.get("/api/v1/me", headers=bearer(ann)).status_code == 401


def test_a_small_token_cannot_revoke_a_larger_one_of_its_user_but_itself(client: TestClient) -> None:
    large = make_user(client, "ann", "admin")
    small = _make(client, large, scope="write").json()
    ids = {item["id"] for item in client.get(URL, headers=bearer(large)).json()["items"]}
    (other,) = ids - {small["id"]}
    assert [item["id"] for item in client.get(URL, headers=bearer(small["token"])).json()["items"]] == [small["id"]]
    assert client.delete(f"{URL}/{other}", headers=bearer(small["token"])).status_code == 404
    assert client.delete(f"{URL}/{small['id']}", headers=bearer(small["token"])).status_code == 204


def test_a_scope_caps_what_a_role_allows(client: TestClient) -> None:
    reader = bearer(make_token(client, scope="read"))
    assert client.get("/api/v1/jobs", headers=reader).status_code == 200
    assert client.post("/api/v1/jobs", json={}, headers=reader).status_code == 403
    writer = bearer(make_token(client, scope="write"))
    assert client.post("/api/v1/jobs", json={}, headers=writer).status_code == 422
    assert client.get("/api/v1/users", headers=writer).status_code == 403


def test_a_lost_first_token_is_replaced_by_removing_its_file(client: TestClient, settings: Settings) -> None:
    from service.app import prepare

    make_user(client, "ann")
    client.patch("/api/v1/users/ann", json={"is_admin": True})
    client.patch("/api/v1/users/admin", json={"disabled": True})
    settings.token_file.unlink()
    prepare(settings)
    with make_client(settings) as again:
        me = again.get("/api/v1/me").json()
        assert (me["user"], me["is_admin"]) == ("admin", True)


def test_a_revoked_first_token_stays_so_at_the_next_start(client: TestClient, settings: Settings) -> None:
    from service.app import prepare

    (first,) = client.get(URL).json()["items"]
    client.delete(f"{URL}/{first['id']}")
    prepare(settings)
    with make_client(settings) as again:
        assert again.get("/api/v1/me").status_code == 401


def test_an_event_stream_ends_with_its_token(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.events.follow.RECHECK_SECONDS", 0.0)
    made = _make(client, scope="read").json()
    rounds = 0

    def closing() -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            with client.app.state.db.write() as session:
                session.get(Token, made["id"]).revoked_at = time.time()
        return rounds > 50

    client.app.state.closing = closing
    assert client.get("/api/v1/events", headers=bearer(made["token"])).status_code == 200
    assert rounds == 3
