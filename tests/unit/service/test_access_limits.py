"""How often one may ask: a good token keeps working while somebody guesses from the same address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from service.access.limits import RateLimits
from service.errors import Problem
from service.models import Audit
from service.settings import Settings
from tests.helpers.api import bearer, make_client, make_token, start


@contextmanager
def limited(settings: Settings, *, token: str | None = "owner", **rates: str) -> Iterator[TestClient]:
    with make_client(replace(settings, **rates), token=token) as client:
        yield client


def statuses(client: TestClient, count: int, **call: Any) -> list[int]:
    return [client.get("/api/v1/me", **call).status_code for _ in range(count)]


def test_a_token_is_told_to_wait(settings: Settings) -> None:
    with limited(settings, rate_limit="5/hour") as client:
        assert statuses(client, 6) == [200] * 5 + [429]
        response = client.get("/api/v1/me")
        assert response.headers["content-type"] == "application/problem+json"
        assert 3000 < int(response.headers["Retry-After"]) <= 3600
        assert "5/hour" in response.json()["detail"]


def test_tokens_are_counted_each_for_itself(settings: Settings, client: TestClient) -> None:
    other = bearer(make_token(client))
    with limited(settings, rate_limit="3/hour") as busy:
        assert statuses(busy, 4) == [200] * 3 + [429]
        assert statuses(busy, 1, headers=other) == [200]


def test_wrong_tokens_are_few_and_a_good_one_still_works(settings: Settings) -> None:
    with limited(settings, rate_limit_failures="4/hour") as client:
        assert statuses(client, 6, headers=bearer("wrong")) == [401] * 4 + [429] * 2
        assert statuses(client, 2) == [200, 200]


def test_logins_share_the_limit_of_wrong_tokens(settings: Settings) -> None:
    with limited(settings, token=None, rate_limit_failures="3/hour") as client:
        origin = {"Origin": "http://testserver"}
        tries = [
            client.post("/api/v1/session", json={"token": f"bcd_{n}"}, headers=origin).status_code for n in range(5)
        ]
        assert tries == [401] * 3 + [429] * 2
        with client.app.state.db.read() as session:
            rows = session.scalar(select(func.count()).where(Audit.action == "login.refused"))
        assert rows == 3  # guesses beyond the limit do not fill the record


def test_calls_without_a_token_are_counted_by_address(settings: Settings) -> None:
    with limited(settings, token=None, rate_limit_anonymous="4/hour") as client:
        assert [client.get(path).status_code for path in ("/docs", "/openapi.json")] == [200, 200]
        assert statuses(client, 3) == [401, 401, 429]
        assert client.get("/docs").status_code == 429
        assert client.get("/healthz").status_code == 200  # whoever watches over the process is never sent away


def test_a_fleet_of_workers_is_not_limited(settings: Settings) -> None:
    with limited(settings, rate_limit="4/hour", rate_limit_anonymous="1/hour", rate_limit_failures="1/hour") as client:
        _, worker = start(client)
        for step in range(20):
            worker.send(worker.metric(step, loss=1.0))


def test_an_ended_token_is_recorded_once_a_minute(settings: Settings, client: TestClient) -> None:
    made = client.post("/api/v1/tokens", json={"name": "x", "scope": "read"}).json()
    client.delete(f"/api/v1/tokens/{made['id']}")
    assert statuses(client, 10, headers=bearer(made["token"])) == [401] * 10
    with client.app.state.db.read() as session:
        (row,) = session.scalars(select(Audit).where(Audit.action == "token.refused"))
    assert (row.actor, row.target, row.data["why"]) == ("admin", made["id"], "was revoked")


def test_limits_can_be_turned_off(settings: Settings) -> None:
    limits = RateLimits(replace(settings, rate_limit="off", rate_limit_failures="off", rate_limit_anonymous="off"))
    for _ in range(5000):
        limits.token("tok")
        limits.failure("10.0.0.1")
        limits.anonymous("10.0.0.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::2", True),  # one subscriber has all of a /64
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
    ],
)
def test_an_address_is_what_one_subscriber_has(settings: Settings, one: str, other: str, same: bool) -> None:
    limits = RateLimits(replace(settings, rate_limit_failures="1/hour"))
    limits.failure(one)
    if same:
        with pytest.raises(Problem) as caught:
            limits.failure(other)
        assert caught.value.status == 429
    else:
        limits.failure(other)


@pytest.mark.parametrize("rate", ["lots", "0/minute", "5/fortnight", "5", "-1/minute", "5/minute; 1/second"])
def test_a_rate_that_is_none_stops_the_start_with_the_reason(rate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCD_RATE_LIMIT", rate)
    with pytest.raises(SystemExit, match=r"BCD_RATE_LIMIT.*600/minute"):
        Settings.load("/nowhere")


def test_rates_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCD_RATE_LIMIT", "7/second")
    monkeypatch.setenv("BCD_RATE_LIMIT_FAILURES", "off")
    settings = Settings.load("/nowhere")
    assert (settings.rate_limit, settings.rate_limit_failures) == ("7/second", "off")


def test_callers_that_have_gone_are_forgotten(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.access.limits._FEW_KEYS", 50)
    limits = RateLimits(settings)
    for n in range(200):
        limits.failure(f"10.0.{n // 250}.{n % 250}")
        for hits in limits._storage.events.values():
            hits.clear()  # as the storage does when their time is over
    assert len(limits._storage.events) <= 100
