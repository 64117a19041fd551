"""Everything that goes wrong is a problem (RFC 9457) with a request id, and tells nothing of the inside."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from service.app import create_app
from service.db import Database
from service.settings import Settings
from tests.helpers.api import make_client

MEMBERS = {"type", "title", "status", "detail", "request_id"}


def _is_problem(response: object, status: int) -> dict[str, object]:
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    body: dict[str, object] = response.json()  # type: ignore[attr-defined]
    assert body.keys() >= MEMBERS
    assert body["status"] == status
    assert body["request_id"] == response.headers["X-Request-Id"]  # type: ignore[attr-defined]
    return body


def test_unknown_routes_and_methods(client: TestClient) -> None:
    assert "/api/v1/nothing" in str(_is_problem(client.get("/api/v1/nothing"), 404)["detail"])
    assert "DELETE" in str(_is_problem(client.delete("/api/v1/jobs"), 405)["detail"])


def test_a_bad_query_names_the_parameter(client: TestClient) -> None:
    body = _is_problem(client.get("/api/v1/jobs", params={"limit": 1000, "state": "sleeping"}), 422)
    assert {error["pointer"] for error in body["errors"]} >= {"?limit"}  # type: ignore[union-attr,index]


@pytest.mark.parametrize(
    ("sent", "place"),
    [(b'{"a": 1,\n  "b": }', (2, 8)), (b"{", (1, 2)), (b'{"a": 1} x', (1, 10))],
)
def test_broken_json_is_named_by_line_and_column(client: TestClient, sent: bytes, place: tuple[int, int]) -> None:
    body = _is_problem(client.post("/api/v1/jobs", content=sent), 400)
    assert (body["line"], body["column"]) == place
    assert f"line {place[0]}, column {place[1]}" in str(body["detail"])


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b'{"seed": NaN}', "NaN"),
        (b'{"seed": -Infinity}', "Infinity"),
        (b'{"seed": 1e999}', "out of range"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"seed": 1, "seed": 2}', "twice"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"name": "a\\u0000b"}', "NUL"),
        (b'{"name": "\\ud800"}', "surrogate"),
        (b"[" * 65 + b"]" * 65, "deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "deeply"),
    ],
)
def test_what_is_no_usable_json_is_refused_with_the_reason(client: TestClient, sent: bytes, word: str) -> None:
    assert word in str(_is_problem(client.post("/api/v1/jobs", content=sent), 400)["detail"])


def test_a_body_of_five_megabytes_is_told_the_limit(client: TestClient) -> None:
    body = _is_problem(client.post("/api/v1/jobs", content=b" " * 5_000_000), 413)
    assert "1000000 bytes" in str(body["detail"])


def test_a_chunked_body_is_counted_as_it_comes(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(50):
            yield b" " * 100_000

    request = client.build_request("POST", "/api/v1/jobs", content=chunks())
    assert "content-length" not in request.headers
    assert "1000000 bytes" in str(_is_problem(client.send(request), 413)["detail"])


def test_a_body_of_exactly_the_limit_is_read(client: TestClient) -> None:
    sent = b'{"a":1}'.ljust(1_000_000)
    assert client.post("/api/v1/jobs", content=sent).status_code == 422


def test_an_unexpected_fault_says_nothing_but_where_to_look(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings, web=None)

    @app.get("/boom")
    def boom() -> None:
        raise RuntimeError("secret inside")

    with TestClient(app) as client, caplog.at_level(logging.ERROR, "bcd.api"):
        response = client.get("/boom")
    body = _is_problem(response, 500)
    assert "secret" not in response.text
    assert str(body["request_id"]) in str(body["detail"])
    assert any(str(body["request_id"]) in r.getMessage() and r.exc_info for r in caplog.records)


def test_a_database_that_does_not_answer_is_a_503_to_try_again(settings: Settings) -> None:
    app = create_app(settings, web=None)

    @app.get("/locked")
    def locked() -> None:
        raise OperationalError("SELECT 1", {}, Exception("database is locked"))

    with TestClient(app) as client:
        response = client.get("/locked")
    assert "SELECT" not in str(_is_problem(response, 503))
    assert response.headers["Retry-After"] == "1"


def test_postgresql_gives_up_what_takes_too_long(database_url: str, settings: Settings) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite has no limit on statements")
    app, db = create_app(settings, web=None), Database(database_url, statement_seconds=0.2)

    @app.get("/slow")
    def slow() -> None:
        with db.read() as session:
            session.execute(text("SELECT pg_sleep(20)"))

    with TestClient(app) as client:
        body = _is_problem(client.get("/slow"), 503)
    db.close()
    assert "too long" in str(body["detail"])


def test_a_missing_database_is_a_503_not_a_crash(tmp_path: Path, settings: Settings) -> None:
    gone = Settings.load(settings.home, database_url=f"sqlite:///{tmp_path}/gone/a.db")
    with make_client(gone) as client:
        _is_problem(client.get("/api/v1/jobs"), 503)


def test_a_good_request_id_is_kept_and_a_bad_one_replaced(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    assert client.get("/healthz", headers={"X-Request-Id": "a b\tc"}).headers["X-Request-Id"] != "a b\tc"


def test_only_faults_are_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bcd.api"):
        client.get("/healthz")
        client.get("/api/v1/jobs/nope")
    assert len([r for r in caplog.records if r.name == "bcd.api"]) == 1
