"""Sessions of browsers: a cookie that no script reads, that counts for our own pages alone and ends with its token."""

from __future__ import annotations

import time
from http.cookies import SimpleCookie
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from service.access.origin import COOKIE
from service.auth import owner_token
from service.models import Audit, Token
from service.settings import Settings
from tests.helpers.api import bearer, make_client, make_token, make_user, submit, tiny_spec

URL = "/api/v1/session"
OWN = {"Origin": "http://testserver"}


def log_in(client: TestClient, token: str, **headers: str) -> Any:
    """Open a session that must be given; from then on the client sends its cookie."""
    response = client.post(URL, json={"token": token}, headers={**OWN, **headers})
    assert response.status_code == 200, response.text
    return response


@pytest.fixture
def browser(settings: Settings) -> Any:
    """A client that has logged in as the owner and holds nothing but the cookie."""
    with make_client(settings, token=None) as client:
        log_in(client, owner_token(settings))
        yield client


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(settings: Settings) -> None:
    with make_client(settings, token=None) as client:
        response = log_in(client, owner_token(settings))
    (cookie,) = SimpleCookie(response.headers["Set-Cookie"]).values()
    assert (cookie.key, cookie["httponly"], cookie["samesite"]) == (COOKIE, True, "strict")
    assert (cookie["path"], cookie["max-age"], cookie["secure"]) == ("/api/v1", "604800", "")
    assert cookie.value.startswith("bcs_")
    assert len(cookie.value) == 47
    assert cookie.value not in response.text
    assert owner_token(settings) not in response.headers["Set-Cookie"]


def test_the_cookie_is_secure_where_the_address_is(settings: Settings) -> None:
    with make_client(settings, token=None) as client:
        client.base_url = "https://testserver"
        response = log_in(client, owner_token(settings), Origin="https://testserver")
    assert "secure" in response.headers["Set-Cookie"].lower()


def test_a_session_may_what_its_token_may(settings: Settings, client: TestClient) -> None:
    reader = make_token(client, scope="read")
    with make_client(settings, token=None) as browser:
        assert log_in(browser, reader).json()["scope"] == "read"
        assert browser.get("/api/v1/jobs").status_code == 200
        assert browser.post("/api/v1/jobs", json=tiny_spec(), headers=OWN).status_code == 403


def test_a_browser_works_with_the_cookie_alone(browser: TestClient) -> None:
    assert browser.get(URL).json()["user"] == "admin"
    made = browser.post("/api/v1/jobs", json=tiny_spec(), headers=OWN)
    assert made.status_code == 201
    assert browser.get(f"/api/v1/jobs/{made.json()['id']}").status_code == 200


def test_a_change_by_cookie_must_come_from_our_own_pages(browser: TestClient) -> None:
    job = submit(browser, **OWN)
    for headers in [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver.evil.example"},
        {"Origin": "http://testserver:8080"},  # another server on this host is the same site, not the same origin
        {"Origin": "http://evil.example@testserver"},
        {"Origin": "ftp://testserver"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"},
    ]:
        for call in (
            browser.post("/api/v1/jobs", json=tiny_spec(), headers=headers),
            browser.post(f"/api/v1/jobs/{job['id']}/cancel", headers=headers),
            browser.delete(URL, headers=headers),
            browser.post("/api/v1/tokens", json={"name": "x", "scope": "admin"}, headers=headers),
        ):
            assert call.status_code == 403, headers
            assert "another site" in call.json()["detail"]
    assert len(browser.get("/api/v1/jobs").json()["items"]) == 1


def test_a_change_from_our_own_pages_is_made(browser: TestClient) -> None:
    for headers in [
        OWN,
        {"Origin": "HTTP://TestServer"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://testserver"},
    ]:
        assert browser.post("/api/v1/jobs", json=tiny_spec(), headers=headers).status_code == 201


def test_another_page_cannot_read_by_cookie_either(browser: TestClient) -> None:
    for site in ["cross-site", "same-site"]:
        assert browser.get("/api/v1/jobs", headers={"Sec-Fetch-Site": site}).status_code == 403
        assert browser.get("/api/v1/jobs", headers={"Sec-Fetch-Site": "none"}).status_code == 200  # typed by a person


def test_bearer_calls_need_no_origin(client: TestClient) -> None:
    assert client.post("/api/v1/jobs", json=tiny_spec(), headers={"Origin": "http://evil.example"}).status_code == 201


def test_another_site_cannot_log_its_visitor_in(settings: Settings) -> None:
    body = {"token": owner_token(settings)}
    with make_client(settings, token=None) as client:
        for headers in ({}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            response = client.post(URL, json=body, headers=headers)
            assert (response.status_code, "Set-Cookie" in response.headers) == (403, False)


def test_the_secrets_of_tokens_and_sessions_do_not_stand_in_for_each_other(
    settings: Settings, browser: TestClient
) -> None:
    secret = browser.cookies[COOKIE]
    with make_client(settings, token=secret) as client:
        assert client.get("/api/v1/me").status_code == 401
    with make_client(settings, token=None) as client:
        client.cookies.set(COOKIE, owner_token(settings), path="/api/v1")
        assert client.get("/api/v1/me").status_code == 401


def test_a_wrong_bearer_token_is_not_saved_by_a_good_cookie(browser: TestClient) -> None:
    assert browser.get("/api/v1/me", headers=bearer("wrong")).status_code == 401


def test_a_closed_session_is_over(browser: TestClient, settings: Settings) -> None:
    secret = browser.cookies[COOKIE]
    closed = browser.delete(URL, headers=OWN)
    assert closed.status_code == 204
    assert COOKIE not in browser.cookies
    browser.cookies.set(COOKIE, secret, path="/api/v1")
    assert browser.get(URL).status_code == 401
    assert browser.delete(URL, headers=OWN).status_code == 204  # again changes nothing


def test_a_session_ends_with_the_token_that_opened_it(client: TestClient, settings: Settings) -> None:
    made = client.post("/api/v1/tokens", json={"name": "x", "scope": "read"}).json()
    with make_client(settings, token=None) as browser:
        log_in(browser, made["token"])
        client.delete(f"/api/v1/tokens/{made['id']}")
        assert browser.get("/api/v1/me").status_code == 401


def test_a_session_ends_with_its_user(client: TestClient, settings: Settings) -> None:
    token = make_user(client, "ann", "viewer")
    with make_client(settings, token=None) as browser:
        log_in(browser, token)
        client.patch("/api/v1/users/ann", json={"disabled": True})
        assert browser.get("/api/v1/me").status_code == 401


def _session_row(client: TestClient) -> Token:
    with client.app.state.db.read() as session:
        (row,) = session.scalars(select(Token).where(Token.type == "session")).all()
        return row


def test_a_session_lives_on_while_it_is_used_and_not_longer(browser: TestClient) -> None:
    day, row = 24 * 3600, _session_row(browser)
    with browser.app.state.db.write() as session:
        stored = session.get(Token, row.id)
        stored.expires_at, stored.last_used_at = time.time() + day, time.time() - 6 * day
    assert browser.get("/api/v1/jobs").status_code == 200
    assert _session_row(browser).expires_at == pytest.approx(time.time() + 7 * day, abs=60)
    with browser.app.state.db.write() as session:
        session.get(Token, row.id).expires_at = time.time() - 1
    assert browser.get("/api/v1/jobs").status_code == 401


def test_a_session_does_not_outlive_a_token_that_expires(client: TestClient, settings: Settings) -> None:
    made = client.post("/api/v1/tokens", json={"name": "x", "scope": "admin", "expires_in": 3600}).json()
    with make_client(settings, token=None) as browser:
        assert log_in(browser, made["token"]).json()["expires_at"] == made["expires_at"]
        assert browser.get(URL).json()["expires_at"] == made["expires_at"]
        # nor does it make a token that would
        assert browser.post("/api/v1/tokens", json={"name": "y", "scope": "read"}, headers=OWN).status_code == 403


def test_the_browser_keeps_the_cookie_as_long_as_the_page_is_opened(browser: TestClient) -> None:
    before = browser.cookies[COOKIE]
    response = browser.get(URL)
    assert "Max-Age=604800" in response.headers["Set-Cookie"]
    assert browser.cookies[COOKIE] == before


def test_a_session_is_for_browsers(client: TestClient) -> None:
    assert client.get(URL).status_code == 404
    assert client.get("/api/v1/me").status_code == 200


def test_logins_are_recorded(settings: Settings, client: TestClient) -> None:
    with make_client(settings, token=None) as browser:
        assert browser.post(URL, json={"token": "wrong"}, headers=OWN).status_code == 401
        log_in(browser, owner_token(settings))
        browser.delete(URL, headers=OWN)
    with client.app.state.db.read() as session:
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
    told = [(row.action, row.actor) for row in rows if row.action != "token.create"]
    assert told == [("login.refused", "-"), ("session.open", "admin"), ("session.close", "admin")]
    assert all(row.address and row.request_id for row in rows[-3:])
    assert "wrong" not in repr([row.data for row in rows])
