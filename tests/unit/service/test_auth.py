"""How the secrets of the installation are kept, and what the token of an attempt opens.

Who may call which route is in `test_access_matrix`.
"""

from __future__ import annotations

import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import warn_if_open
from service.auth import attempt_token, ensure_secrets, owner_token
from service.settings import Settings
from tests.helpers.api import FakeWorker, claim, make_client, start, submit

OPEN = ("/", "/healthz", "/openapi.json", "/docs")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_readable_by_their_owner_only(settings: Settings) -> None:
    assert _mode(settings.run) == 0o700
    assert _mode(settings.token_file) == _mode(settings.secret_file) == 0o600
    assert len(owner_token(settings)) == 47
    assert owner_token(settings).startswith("bcd_")
    assert settings.token_file.read_text() != settings.secret_file.read_text()
    assert {path.name for path in settings.run.iterdir()} == {"api-token", "secret"}


def test_secrets_made_by_many_at_once_are_made_once(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path / "home")
    seen: list[str] = []

    def run() -> None:
        ensure_secrets(settings)
        seen.append(owner_token(settings) + attempt_token(settings, "att_1", 1))

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 20
    assert len(set(seen)) == 1


def test_loose_modes_are_tightened_and_secrets_kept(settings: Settings) -> None:
    before = owner_token(settings)
    settings.run.chmod(0o755)
    settings.token_file.chmod(0o644)
    ensure_secrets(settings)
    assert (_mode(settings.run), _mode(settings.token_file), owner_token(settings)) == (0o700, 0o600, before)


def test_open_routes_need_no_token(settings: Settings) -> None:
    with make_client(settings, token=None) as client:
        for path in OPEN:
            assert client.get(path).status_code == 200, path
        assert client.get("/healthz").json() == {"status": "ok"}


def test_the_address_itself_leads_to_the_documentation(client: TestClient) -> None:
    assert client.get("/", follow_redirects=False).headers["location"] == "/docs"


@pytest.mark.parametrize("token", ["", "wrong", "ü".encode().decode("latin-1")])
def test_a_wrong_token_is_refused(settings: Settings, token: str) -> None:
    with make_client(settings, token=None) as client:
        headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
        assert client.get("/api/v1/jobs", headers=headers).status_code == 401


def test_an_empty_token_file_lets_nobody_in(settings: Settings) -> None:
    settings.token_file.write_text("")
    with make_client(settings, token=None) as client:
        assert client.get("/api/v1/jobs").status_code == 401
        assert client.get("/api/v1/jobs", headers={"Authorization": "Bearer "}).status_code == 401


def test_an_attempt_token_opens_its_own_attempt_and_nothing_else(client: TestClient) -> None:
    _, first = start(client)
    _, second = start(client)
    assert first.ticket().status_code == 200
    first.attempt_id, own = second.attempt_id, first.attempt_id
    assert first.ticket().status_code == 401
    assert client.get("/api/v1/jobs", headers=first.headers).status_code == 401
    assert client.get(f"/api/v1/attempts/{own}/ticket").status_code == 401  # the owner is no worker


def test_attempt_tokens_differ_by_attempt_epoch_and_installation(settings: Settings, tmp_path: Path) -> None:
    other = Settings.load(tmp_path / "other")
    ensure_secrets(other)
    tokens = {
        attempt_token(settings, "att_1", 1), attempt_token(settings, "att_1", 2),
        attempt_token(settings, "att_2", 1), attempt_token(other, "att_1", 1),
    }  # fmt: skip
    assert len(tokens) == 4
    assert attempt_token(settings, "att_1", 1) in tokens


def test_an_unknown_attempt_looks_like_a_wrong_token(client: TestClient, settings: Settings) -> None:
    worker = FakeWorker(client, "att_nope", -1)
    assert worker.ticket().status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8765", "", "[::1]"])
def test_a_foreign_host_name_is_refused(client: TestClient, host: str) -> None:
    response = client.get("/healthz", headers={"Host": host})
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8765", "LocalHost:1"])
def test_own_host_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_the_token_of_an_earlier_attempt_is_stale_not_wrong(client: TestClient) -> None:
    job = submit(client)
    first = FakeWorker(client, *claim(client, job["id"]))
    first.send(first.running(), first.ended("failed", cause="node lost", retryable=True))
    claim(client, job["id"])
    response = first.post()
    assert (response.status_code, response.json()["type"]) == (409, "urn:bcd:stale-attempt")


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_listening_on_more_than_loopback_is_warned_of(
    settings: Settings, caplog: pytest.LogCaptureFixture, host: str, warned: bool
) -> None:
    assert settings.api_host == "127.0.0.1"  # what one gets without asking
    warn_if_open(replace(settings, api_host=host))
    assert ("in the clear" in caplog.text) is warned
