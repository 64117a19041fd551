"""The web UI is served: its page at every address of its own, files kept for ever, nothing run that is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>bcd</title>")
    (folder / "assets" / "index-a1b2.js").write_text("console.log('bcd');\n" * 200)
    (tmp_path / "secret.txt").write_text("the plans")
    return folder


@pytest.fixture
def browser(settings: Settings, web: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings, web=web)) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/job_01", "/compare?runs=a,b", "/v/1"])
def test_every_address_of_the_page_shows_the_page(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<title>bcd</title>" in answer.text
    assert answer.headers["cache-control"] == "no-cache"


def test_scripts_are_kept_for_ever_and_sent_compressed(browser: TestClient) -> None:
    answer = browser.get("/assets/index-a1b2.js", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("text/javascript")


def test_only_our_own_scripts_run(browser: TestClient) -> None:
    policy = browser.get("/jobs").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/nothing", "/assets/gone.js", "/gone.js", "/favicon.ico"])
def test_what_is_missing_is_a_problem_and_no_page(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code in (401, 404)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/..%2fsecret.txt", "/assets/..%2f..%2fsecret.txt", "/%2e%2e/secret.txt"])
def test_nothing_beside_the_built_files_is_served(browser: TestClient, path: str) -> None:
    assert "plans" not in browser.get(path).text


def test_the_api_is_first(browser: TestClient) -> None:
    assert browser.get("/healthz").headers["content-type"] == "application/json"
    assert browser.get("/openapi.json").json()["info"]["title"] == "bcd"
    assert browser.get("/api/v1/jobs").status_code == 401
    assert browser.post("/jobs").status_code == 405


def test_without_a_built_page_the_reference_is_shown(settings: Settings, tmp_path: Path) -> None:
    with TestClient(create_app(settings, web=tmp_path / "not-built")) as client:
        assert client.get("/", follow_redirects=False).headers["location"] == "/docs"
