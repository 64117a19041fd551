"""Downloads from a folder and from S3: the right bytes, by id only, and a clear answer when storage has lost them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from bcd.storage import object_key
from service.app import STORAGE_THREADS
from service.artifacts.ranges import NotSatisfiable, asked_range
from service.artifacts.service import download_name
from service.models import Artifact
from service.settings import Settings
from tests.helpers.api import start
from tests.helpers.s3 import Inside, closed_port, use_server

CONTENT = b"0123456789" * 10


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # here storage is of several kinds


@pytest.fixture
def settings(settings: Settings, storage_uri: str) -> Settings:
    made = replace(settings, storage_uri=storage_uri)
    if made.storage is not None:
        made.storage.mkdir()
    return made


@pytest.fixture
def inside(storage_uri: str) -> Inside:
    return Inside(storage_uri)


@pytest.fixture
def artifact(client: TestClient) -> dict[str, Any]:
    return made(client, CONTENT)


def made(client: TestClient, content: bytes) -> dict[str, Any]:
    job, worker = start(client)
    worker.send(worker.artifact("result", "student.safetensors", 4, content))
    (row,) = client.get(f"/api/v1/jobs/{job['id']}/artifacts").json()["items"]
    return {**row, "job_id": job["id"], "url": f"/api/v1/artifacts/{row['id']}/content"}


# ------------------------------------------------------------------------------------------------------ answers


def test_the_whole_file_with_its_hash_and_a_safe_name(client: TestClient, artifact: dict[str, Any]) -> None:
    response = client.get(artifact["url"])
    assert (response.status_code, response.content) == (200, CONTENT)
    expected = {
        "ETag": f'"{artifact["sha256"]}"', "Content-Length": "100", "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'attachment; filename="{artifact["job_id"]}-student.safetensors"',
    }  # fmt: skip
    assert {name: response.headers[name] for name in expected} == expected


def test_a_range_of_the_file(client: TestClient, artifact: dict[str, Any]) -> None:
    response = client.get(artifact["url"], headers={"Range": "bytes=5-12"})
    assert (response.status_code, response.content) == (206, CONTENT[5:13])
    assert response.headers["Content-Range"] == "bytes 5-12/100"
    assert response.headers["Content-Length"] == "8"
    assert response.headers["ETag"] == f'"{artifact["sha256"]}"'


def test_a_range_behind_the_end_is_a_problem_that_tells_the_size(client: TestClient, artifact: dict[str, Any]) -> None:
    response = client.get(artifact["url"], headers={"Range": "bytes=100-"})
    assert (response.status_code, response.headers["content-type"]) == (416, "application/problem+json")
    assert response.headers["Content-Range"] == "bytes */100"
    assert response.json()["detail"] == "the range 'bytes=100-' has no byte of this file, which has 100"


def test_several_ranges_are_answered_with_the_whole_file(client: TestClient, artifact: dict[str, Any]) -> None:
    response = client.get(artifact["url"], headers={"Range": "bytes=0-1,5-6"})
    assert (response.status_code, response.content) == (200, CONTENT)


def test_a_download_is_continued_only_while_it_is_the_same_file(client: TestClient, artifact: dict[str, Any]) -> None:
    rest = {"Range": "bytes=60-"}
    same = client.get(artifact["url"], headers={**rest, "If-Range": f'"{artifact["sha256"]}"'})
    assert (same.status_code, same.content) == (206, CONTENT[60:])
    for tag in ('"other"', f'W/"{artifact["sha256"]}"', "Wed, 21 Oct 2026 07:28:00 GMT"):
        other = client.get(artifact["url"], headers={**rest, "If-Range": tag})
        assert (other.status_code, other.content) == (200, CONTENT)


@pytest.mark.parametrize("tag", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
def test_what_the_client_has_already_is_not_sent_again(client: TestClient, artifact: dict[str, Any], tag: str) -> None:
    response = client.get(artifact["url"], headers={"If-None-Match": tag.format(artifact["sha256"])})
    assert (response.status_code, response.content) == (304, b"")
    assert client.get(artifact["url"], headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_question_for_the_headers_alone_gets_those_of_the_whole_file(
    client: TestClient, artifact: dict[str, Any]
) -> None:
    whole = client.get(artifact["url"])
    for headers in ({}, {"Range": "bytes=5-12"}, {"Range": "bytes=500-"}):
        response = client.head(artifact["url"], headers=headers)
        assert (response.status_code, response.content) == (200, b"")
        ignored = {"x-request-id", "date"}
        assert {k: v for k, v in response.headers.items() if k not in ignored} == {
            k: v for k, v in whole.headers.items() if k not in ignored
        }


def test_an_empty_file_can_be_downloaded_and_has_no_range(client: TestClient) -> None:
    url = made(client, b"")["url"]
    response = client.get(url)
    assert (response.status_code, response.content, response.headers["Content-Length"]) == (200, b"", "0")
    assert client.get(url, headers={"Range": "bytes=0-"}).status_code == 416
    assert client.get(url, headers={"Range": "bytes=-5"}).status_code == 200


def test_an_unknown_artifact_is_404(client: TestClient) -> None:
    for id in ("art_nope", "..%2f..%2fbcd.db", "%2e%2e"):
        assert client.get(f"/api/v1/artifacts/{id}/content").status_code == 404


# ------------------------------------------------------------------------------------------------------- faults


def test_a_file_that_is_gone_or_damaged_is_410(client: TestClient, artifact: dict[str, Any], inside: Inside) -> None:
    inside.write(object_key(artifact["sha256"]), CONTENT[:50])
    response = client.get(artifact["url"])
    assert (response.status_code, response.headers["content-type"]) == (410, "application/problem+json")
    assert "damaged: 50 bytes in storage, 100 expected" in response.json()["detail"]
    inside.remove(object_key(artifact["sha256"]))
    assert "gone" in client.get(artifact["url"]).json()["detail"]
    assert client.head(artifact["url"]).status_code == 410


def test_a_key_from_a_tampered_database_leads_nowhere(client: TestClient, artifact: dict[str, Any]) -> None:
    with client.app.state.db.write() as session:
        session.get(Artifact, artifact["id"]).key = "../bcd.db"
    assert client.get(artifact["url"]).status_code == 410


def test_storage_that_is_away_loses_nothing(
    client: TestClient, artifact: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app: Any = client.app
    if settings.storage is not None:
        away = replace(settings, storage_uri=f"{settings.storage}-unmounted")
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{closed_port()}")
        away = replace(settings, storage_uri=f"{settings.storage_uri}/")  # a store that is opened only now
    app.state.settings = away
    response = client.get(artifact["url"])
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
    assert int(response.headers["Retry-After"]) > 0
    assert "the file is not lost" in response.json()["detail"]
    app.state.settings = settings
    assert client.get(artifact["url"]).content == CONTENT


# ---------------------------------------------------------------------------------------- over a real connection


@pytest.fixture
def address(client: TestClient) -> Iterator[str]:
    """The same application behind a real server."""
    server = uvicorn.Server(uvicorn.Config(client.app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_a_large_file_comes_whole_in_parts_and_after_a_broken_connection(client: TestClient, address: str) -> None:
    content = bytes(range(256)) * 40_000
    artifact = made(client, content)
    with httpx.Client(base_url=address, headers=client.headers, trust_env=False, timeout=60) as http:
        assert http.head(artifact["url"]).headers["Content-Length"] == str(len(content))
        with http.stream("GET", artifact["url"]) as broken:
            begun = next(broken.iter_raw(1_000_000))
        headers = {"Range": f"bytes={len(begun)}-", "If-Range": broken.headers["ETag"]}
        rest = http.get(artifact["url"], headers=headers)
        assert (rest.status_code, begun + rest.content) == (206, content)
        assert http.get(artifact["url"]).content == content


class Silent:
    """A server that takes every connection and says nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.taken.append(self._listener.accept()[0])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in (self._listener, *self.taken):
            connection.close()


@pytest.mark.parametrize("storage_uri", ["folder"], indirect=True)
def test_downloads_that_hang_on_storage_hold_up_nothing_else(
    client: TestClient, artifact: dict[str, Any], address: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, app = Silent(), cast(Any, client.app)
    use_server(monkeypatch, silent.endpoint)
    app.state.settings = replace(settings, storage_uri="s3://silent")

    async def flood() -> list[int]:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(
            base_url=address, headers=client.headers, trust_env=False, timeout=120, limits=limits
        ) as http:
            # more of them than the server has threads for everything else
            downloads = [asyncio.create_task(http.get(artifact["url"])) for _ in range(60)]
            try:
                while len(silent.taken) < STORAGE_THREADS:
                    await asyncio.sleep(0.01)
                assert (await http.get("/api/v1/jobs")).status_code == 200
                assert not any(download.done() for download in downloads)
            finally:
                silent.close()
            return [answer.status_code for answer in await asyncio.gather(*downloads)]

    assert set(asyncio.run(flood())) == {503}


# ------------------------------------------------------------------------------------------------------- ranges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 100)),
        ("bytes=99-99", (99, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("Bytes= 5-6 ", (5, 7)),
        ("bytes=100-", None),
        ("bytes=100-99999999999999999999", None),
        ("bytes=-0", None),
    ],
)
def test_one_range_is_read_as_the_standard_says(header: str, expected: tuple[int, int] | None) -> None:
    if expected is None:
        with pytest.raises(NotSatisfiable):
            asked_range(header, None, size=100, etag='"e"')
    else:
        assert asked_range(header, None, size=100, etag='"e"') == expected


@pytest.mark.parametrize(
    "header",
    ["", "bytes", "bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "bytes=5", "items=0-1", "bytes=0-1,3-4", "bytes=--1",
     "bytes=1-2-3", "bytes=+1-2", "bytes=" + "9" * 5000 + "-", "bytes=\u0661-"],
)  # fmt: skip
def test_what_is_no_single_range_of_bytes_is_ignored(header: str) -> None:
    assert asked_range(header, None, size=100, etag='"e"') is None


@given(header=st.text(alphabet="bytes=-0123456789, ", max_size=30), size=st.integers(0, 120))
def test_no_header_asks_for_bytes_that_are_not_there(header: str, size: int) -> None:
    try:
        asked = asked_range(header, None, size=size, etag='"e"')
    except NotSatisfiable:
        return
    assert asked is None or 0 <= asked[0] < asked[1] <= size


@pytest.mark.parametrize(
    ("name", "safe"),
    [("student.pt", "job_1-student.pt"), ('a"b\r\nc/d', "job_1-a_b__c_d"), ("ü", "job_1-_"), ("x" * 300, None)],
)
def test_download_names_are_harmless(name: str, safe: str | None) -> None:
    made = download_name("job_1", name)
    assert made == safe if safe is not None else len(made) == 200
