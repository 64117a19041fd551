"""Attacks in the shapes in which they come, and what they get. Who may call which route is in `test_access_matrix`."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import event
from starlette.testclient import TestClient

from bcd.spec import SpecError, load_spec
from service.access.gate import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL
from service.auth import owner_token
from service.settings import Settings
from tests.helpers.api import bearer, make_client, make_token, start, submit, tiny_spec

V1 = "/api/v1"
OWN = {"Origin": "http://testserver"}
BODIES = [f"{V1}/jobs", f"{V1}/tokens", f"{V1}/users", f"{V1}/projects", f"{V1}/session"]


def _refused(response: Any, *statuses: int) -> None:
    assert response.status_code in statuses, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json"


# ------------------------------------------------------------------------------------ the wrong place to call from


def test_dns_rebinding_a_page_whose_name_points_here_gets_nothing(client: TestClient) -> None:
    """The browser believes that our port belongs to the attacker's name, and sends that name."""
    for host in [
        "attacker.example",
        "localhost.attacker.example",
        "127.0.0.1.nip.io",
        "attacker.example:8765",
        "testserver@attacker.example",
        "attacker.example#testserver",
        "testserver.",
        "0.0.0.0",
        "2130706433",  # 127.0.0.1 as a number
        "",
    ]:
        _refused(client.get(f"{V1}/jobs", headers={"Host": host}), 400)


def test_two_host_headers_are_refused(client: TestClient) -> None:
    headers = [("Host", "testserver"), ("Host", "attacker.example")]
    _refused(client.get(f"{V1}/jobs", headers=headers), 400)


@pytest.fixture
def browser(settings: Settings) -> Iterator[TestClient]:
    """A logged-in browser: it holds the cookie alone."""
    with make_client(settings, token=None) as client:
        assert client.post(f"{V1}/session", json={"token": owner_token(settings)}, headers=OWN).status_code == 200
        yield client


def test_csrf_another_page_cannot_act_with_the_visitors_cookie(browser: TestClient) -> None:
    for headers in [
        {"Origin": "https://attacker.example", "Content-Type": "text/plain"},  # <form enctype=text/plain> with JSON
        {"Origin": "null", "Content-Type": "text/plain"},  # from a sandboxed frame or a data: page
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},  # fetch(..., {mode: "no-cors"})
        {"Origin": "http://testserver:3000"},  # another development server on the same machine
        {"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"},
        {"Referer": "http://testserver/"},  # no proof: pages can leave it out
    ]:
        sent = json.dumps(tiny_spec())
        _refused(browser.post(f"{V1}/jobs", content=sent, headers=headers), 403)
        _refused(browser.post(f"{V1}/tokens", content=b'{"name":"x","scope":"admin"}', headers=headers), 403)
        assert browser.get(f"{V1}/jobs").json()["items"] == []


def test_no_answer_ever_opens_the_api_to_other_origins(client: TestClient) -> None:
    asked = {"Origin": "https://attacker.example", "Access-Control-Request-Method": "POST"}
    for context in iter_route_contexts(client.app.routes):
        path = re.sub(r"\{\w+\}", "x", str(context.path))
        for method in ("OPTIONS", "HEAD"):
            response = client.request(method, path, headers=asked, follow_redirects=False)
            assert not [name for name in response.headers if name.lower().startswith("access-control")]


def test_a_method_cannot_be_smuggled_in_a_header(client: TestClient) -> None:
    job = submit(client)
    for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        assert client.get(f"{V1}/jobs/{job['id']}", headers={name: "DELETE"}).json()["state"] == "queued"


def test_an_address_cannot_be_made_up_to_escape_the_limit_of_guesses(settings: Settings) -> None:
    with make_client(replace(settings, rate_limit_failures="5/hour"), token=None) as client:
        made_up = [
            {**bearer(f"bcd_{n}"), "X-Forwarded-For": f"10.0.0.{n}", "Forwarded": f"for=10.0.0.{n}"} for n in range(8)
        ]
        assert [client.get(f"{V1}/me", headers=one).status_code for one in made_up] == [401] * 5 + [429] * 3


def test_no_path_leads_a_browser_elsewhere(client: TestClient) -> None:
    for path in (
        "//attacker.example/%2e%2e",
        "/\\attacker.example/",
        "//attacker.example//",
        "/docs//attacker.example",
    ):
        response = client.get(path, follow_redirects=False)
        assert "attacker" not in response.headers.get("location", "")


# ------------------------------------------------------------------------------------------------- tokens


def test_a_token_is_compared_by_its_hash_in_the_index_and_never_leaves_the_process(client: TestClient) -> None:
    """No comparison of secrets whose time could tell how many characters were right."""
    secret = make_token(client)
    seen: list[str] = []

    def note(_c: Any, _cur: Any, statement: str, parameters: Any, _ctx: Any, _many: bool) -> None:
        seen.append(f"{statement} {parameters!r}")

    engine = client.app.state.db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        assert client.get(f"{V1}/me", headers=bearer(secret)).status_code == 200
        assert client.get(f"{V1}/me", headers=bearer(secret[:-1])).status_code == 401
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert hashlib.sha256(secret.encode()).hexdigest() in "".join(seen)
    assert secret[:-1] not in "".join(seen)


def test_a_token_in_the_address_does_not_count(settings: Settings) -> None:
    """Addresses end up in logs and histories."""
    for place in ["access_token", "token", "api_key", "key"]:
        with make_client(settings, token=None) as client:
            _refused(client.get(f"{V1}/jobs", params={place: owner_token(settings)}), 401)


def test_a_token_under_another_scheme_does_not_count(settings: Settings) -> None:
    for scheme in ["Basic", "Token", "bearer\t", "Digest"]:
        with make_client(settings, token=None) as client:
            headers = {"Authorization": f"{scheme} {owner_token(settings)}"}
            _refused(client.get(f"{V1}/jobs", headers=headers), 401)


def test_no_secret_reaches_the_log(client: TestClient, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    secret = make_token(client)
    with caplog.at_level(logging.DEBUG):
        client.get(f"{V1}/nothing", headers=bearer(secret))
        client.get(f"{V1}/me", headers=bearer(secret + "x"))
        client.post(f"{V1}/session", json={"token": secret + "y"}, headers=OWN)
    assert "401" in caplog.text
    assert secret not in caplog.text


# ------------------------------------------------------------------------------------------------- paths and names

TRAVERSALS = [
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fbcd.db",
    "..%5c..%5cwin.ini",
    "%2fetc%2fpasswd",
    "..%252f..%252fetc%252fpasswd",
    "%c0%ae%c0%ae%c0%afetc%c0%afpasswd",  # overlong UTF-8
    "%ef%bc%8e%ef%bc%8e%ef%bc%8fetc",  # full-width dots and slash
    "file:%2f%2f%2fetc%2fpasswd",
    "run%2fapi-token",
    "%00",
    "art_1%00.png",
    "%0d%0aSet-Cookie:%20x=1",
    "'%20OR%201=1%20--",
    "%27%3BDROP%20TABLE%20jobs%3B--",
    "%7b%7b7*7%7d%7d",
    "x" * 5000,
]


def test_an_id_is_looked_up_and_nothing_else(client: TestClient, settings: Settings) -> None:
    for id in TRAVERSALS:
        for path in (
            f"/jobs/{id}", f"/jobs/{id}/logs", f"/jobs/{id}/artifacts", f"/artifacts/{id}/content", f"/projects/{id}",
            f"/projects/{id}/members",
        ):  # fmt: skip
            response = client.get(V1 + path, follow_redirects=False)
            _refused(response, 404, 400, 422)
            assert "root:" not in response.text
            assert owner_token(settings) not in response.text
            assert "set-cookie" not in response.headers
        for response in (
            client.delete(f"{V1}/tokens/{id}"),
            client.patch(f"{V1}/users/{id}", json={"disabled": True}),
            client.put(f"{V1}/projects/default/members/{id}", json={"role": "admin"}),
        ):
            _refused(response, 404, 400, 422)


def test_an_artifact_cannot_be_given_a_dangerous_name(client: TestClient) -> None:
    for name in ["../../evil", "/etc/passwd", "a/b", "a\\b", "a\x00b", "ü", "a\r\nSet-Cookie: x=1", ""]:
        _, worker = start(client)
        record = worker.artifact("result", "x", 1, b"content")
        assert worker.post({**record, "name": name}).status_code in (400, 422)
        worker.seq -= 1
        assert worker.post(worker.artifact("result", "good-name_1.bin", 1, b"content")).status_code == 200


def test_an_artifact_cannot_name_a_file_outside_of_storage(client: TestClient) -> None:
    for key in [
        "../../run/api-token",
        "/etc/passwd",
        "objects/../../bcd.db",
        "objects/ab/" + "a" * 63 + "/",
        "s3://b/k",
    ]:
        _, worker = start(client)
        record = worker.artifact("result", "x", 1, b"content")
        _refused(worker.post({**record, "key": key}), 422)


def test_an_artifact_cannot_claim_the_content_of_another_hash(client: TestClient) -> None:
    _, worker = start(client)
    record = worker.artifact("result", "x", 1, b"content")
    other = hashlib.sha256(b"somebody else's").hexdigest()
    _refused(worker.post({**record, "key": f"objects/{other[:2]}/{other}"}), 422)


def test_many_ranges_of_a_file_are_no_burden(client: TestClient) -> None:
    job, worker = start(client)
    worker.send(worker.artifact("result", "x", 1, b"0" * 1000))
    (row,) = client.get(f"{V1}/jobs/{job['id']}/artifacts").json()["items"]
    ranges = "bytes=" + ",".join("0-" for _ in range(5000))
    response = client.get(f"{V1}/artifacts/{row['id']}/content", headers={"Range": ranges})
    assert response.status_code in (200, 206, 400, 416)
    assert len(response.content) < 100_000


# ------------------------------------------------------------------------------------------------- bodies


HOSTILE = [
    b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"name": "x", "scope": "read", "scope": "admin"}',
    b'{"name": NaN}',
    b'{"name": 1e999}',
    b'{"name": ' + b"9" * 5000 + b"}",
    b'{"name": "\\u0000"}',
    b'{"name": "\\ud800"}',
    b'{"name": "\xff"}',
    b"\xff\xfe{\x00}\x00",
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"0",
    b"{}x",
    b"a=1&b=2",
    b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
]


def test_hostile_bodies_are_refused_with_their_reason(client: TestClient) -> None:
    for path in BODIES:
        for sent in HOSTILE:
            _refused(client.post(path, content=sent, headers=OWN), 400, 413, 422)


def test_a_body_of_two_megabytes_is_not_read(client: TestClient) -> None:
    for path in BODIES:
        _refused(client.post(path, content=b" " * 2_000_000, headers=OWN), 413)


def test_nobody_without_a_token_can_make_us_read_much(settings: Settings) -> None:
    with make_client(settings, token=None) as client:
        response = client.post(f"{V1}/session", content=b" " * 20_000, headers=OWN)
        _refused(response, 413)
        assert response.json()["limit"] == 16_384


def test_an_absurd_length_is_no_crash(client: TestClient) -> None:
    for length in ["9" * 5000, "99999999999999999999", "\xb2", "-1", "1e9"]:
        headers = {"Content-Length": length.encode("latin-1")}
        _refused(client.post(f"{V1}/jobs", content=b"{}", headers=headers), 400, 413, 422)


def test_a_compressed_body_is_not_unpacked(client: TestClient) -> None:
    """So there is no bomb: 200 MB of zeros would be 200 kB."""
    bomb = gzip.compress(b" " * 50_000_000)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert len(bomb) < 100_000
    _refused(client.post(f"{V1}/jobs", content=bomb, headers=headers), 400)


def test_absurd_addresses_and_headers_are_refused(client: TestClient) -> None:
    _refused(client.get(f"{V1}/jobs", params={"q": "x" * MAX_URL}), 414)
    _refused(client.get(f"{V1}/" + "x" * MAX_URL), 414)
    _refused(client.get(f"{V1}/jobs", headers={f"X-{n}": "1" for n in range(MAX_HEADERS)}), 431)
    _refused(client.get(f"{V1}/jobs", headers={"X-Large": "x" * MAX_HEADER_BYTES}), 431)


def test_fields_that_are_not_the_callers_to_set_are_refused(client: TestClient) -> None:
    for path, body in [
        ("/users", {"name": "eve", "id": "user_root"}),
        ("/users", {"name": "eve", "disabled_at": None}),
        ("/projects", {"id": "x", "created_at": 0}),
        ("/tokens", {"name": "x", "scope": "read", "user_id": "user_root"}),
        ("/tokens", {"name": "x", "scope": "read", "token": "bcd_chosen"}),
        ("/jobs", {**tiny_spec(), "state": "succeeded"}),
        ("/jobs", {**tiny_spec(), "project_id": "theirs"}),
    ]:
        _refused(client.post(V1 + path, json=body), 422)


# ------------------------------------------------------------------------------------- what comes back out

SCRIPTS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "{{7*7}}", "${7*7}"]


def test_stored_markup_comes_back_as_data_that_no_browser_runs(client: TestClient) -> None:
    for text in SCRIPTS:
        job, worker = start(client, tiny_spec(name=text))
        worker.send(worker.record("log", text=text), worker.ended("failed", cause=text, traceback=text))
        client.patch(f"{V1}/projects/default", json={"description": text})
        for path in (f"/jobs/{job['id']}", "/jobs", f"/jobs/{job['id']}/logs", "/projects/default"):
            response = client.get(V1 + path)
            assert response.headers["content-type"] == "application/json"
            assert text in json.dumps(response.json(), ensure_ascii=False).replace('\\"', '"')
            _no_browser_runs_this(response)
        wrong = client.get(f"{V1}/jobs/{text.replace('/', '')}")
        _refused(wrong, 404)
        _no_browser_runs_this(wrong)


def _no_browser_runs_this(response: Any) -> None:
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy


def test_a_stored_page_is_downloaded_not_shown(client: TestClient) -> None:
    job, worker = start(client)
    worker.send(worker.artifact("other", "evil.html", 1, b"<script>alert(1)</script>"))
    (row,) = client.get(f"{V1}/jobs/{job['id']}/artifacts").json()["items"]
    response = client.get(f"{V1}/artifacts/{row['id']}/content")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"].startswith("attachment;")
    _no_browser_runs_this(response)


def test_every_kind_of_answer_carries_the_security_headers(client: TestClient, settings: Settings) -> None:
    app = client.app

    @app.get("/boom")
    def boom() -> None:
        raise RuntimeError

    with TestClient(app, raise_server_exceptions=False, headers=client.headers) as bare:
        answers = {
            200: bare.get(f"{V1}/me"),
            307: bare.get("/", follow_redirects=False),
            400: bare.get("/healthz", headers={"Host": "evil.example"}),
            401: bare.get(f"{V1}/me", headers=bearer("wrong")),
            404: bare.get("/nothing"),
            405: bare.delete("/healthz"),
            413: bare.post(f"{V1}/jobs", content=b" " * 2_000_000),
            500: bare.get("/boom"),
        }
    for status, response in answers.items():
        assert response.status_code == status
        _no_browser_runs_this(response)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "server" not in response.headers


def test_the_reference_loads_nothing_and_runs_nothing(client: TestClient) -> None:
    response = client.get("/docs")
    _no_browser_runs_this(response)
    page = response.text
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=[\"']?(?!/openapi\.json)[^\"'> ]+", page)
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in response.headers["Content-Security-Policy"]
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page


def test_a_request_cannot_write_lines_into_the_log(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bcd.api"):
        client.get(f"{V1}/jobs/x%0a2026-01-01%20WARNING%20bcd.api:%20all%20is%20well")
        client.get(f"{V1}/nothing", headers={"X-Request-Id": "a\x0bINFO fake"})
    assert len(caplog.records) == 2
    assert not any(set(record.getMessage()) & set("\n\r\x0b") for record in caplog.records)


# ------------------------------------------------------------------------------------------------- specs

SHELL = ["$(touch {mark})", "`touch {mark}`", "; touch {mark}", "| touch {mark}", "\ntouch {mark}\n", "{mark}\x01"]


def test_text_of_a_spec_stays_text(client: TestClient, tmp_path: Path) -> None:
    for template in [*SHELL, "{{0.__class__.__mro__}}", "%s%n%x", "__import__('os').system('id')"]:
        mark = tmp_path / "ran"
        text = template.replace("{mark}", str(mark))
        folder = {"type": "voc", "root": f"/data/{text}", "classes": [text]}
        job = submit(client, tiny_spec(name=text, data=folder, schedule={"steps": 4, "batch_size": 2}))
        shown = client.get(f"{V1}/jobs/{job['id']}").json()
        assert (shown["name"], shown["spec"]["data"]["root"]) == (text, f"/data/{text}")
        assert not mark.exists()


def test_nothing_is_imported_by_the_name_that_a_spec_gives(client: TestClient) -> None:
    for change in [
        {"student": {"backbone": "__import__('os').system('id')"}},
        {"student": {"backbone": "os.system"}},
        {"student": {"backbone": "timm:../../../tmp/evil"}},
        {"student": {"backbone": "timm:hf-hub:attacker/model"}},
        {"student": {"detector": "../../../tmp/evil"}},
        {"methods": [{"type": "subprocess.Popen"}]},
        {"data": {"type": "os.path"}},
        {"schedule": {"optimizer": {"type": "builtins.eval"}}},
        {"schedule": {"compile": "inductor; id"}},
    ]:
        _refused(client.post(f"{V1}/jobs", json=tiny_spec(**change)), 422)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/object/new:subprocess.Popen [['touch', '{mark}']]",
        "name: !!python/name:os.system",
        "a: &a [*a, *a]",
        "a: &a {x: 1}\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c]",
    ],
)
def test_a_spec_file_runs_no_code_and_expands_to_nothing_large(tmp_path: Path, text: str) -> None:
    mark, file = tmp_path / "ran", tmp_path / "spec.yaml"
    file.write_text(text.replace("{mark}", str(mark)))
    with pytest.raises(SpecError):
        load_spec(file)
    assert not mark.exists()


# --------------------------------------------------------------------------------- addresses and files in specs


def _with_data(**data: Any) -> dict[str, Any]:
    made = {"type": "voc", "root": "/data/voc", "classes": ["a"], **data}
    return tiny_spec(data=made, schedule={"steps": 4, "batch_size": 2})


def _with_teacher(path: str) -> dict[str, Any]:
    return tiny_spec(teacher={"path": path}, methods=[{"type": "bckd"}])


@pytest.fixture
def internal_server() -> Iterator[tuple[int, list[str]]]:
    """A server of the internal network that must not be called: its port, and who called."""
    calls: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, address = listener.accept()
            except TimeoutError:
                continue
            calls.append(str(address))
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1], calls
    over.set()
    thread.join()
    listener.close()


def test_ssrf_an_address_in_place_of_a_path_is_refused_and_not_called(
    client: TestClient, internal_server: tuple[int, list[str]]
) -> None:
    port, calls = internal_server
    for address in (
        f"http://127.0.0.1:{port}/x",
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://[::ffff:169.254.169.254]/",
        "file:///etc/shadow",
        "FILE:/etc/shadow",
        f"ftp://127.0.0.1:{port}/",
        f"gopher://127.0.0.1:{port}/_GET",
        "s3://somebodys-bucket/key",
        "jar:http://127.0.0.1!/",
    ):
        for spec, pointer in ((_with_data(root=address), "/data/root"), (_with_teacher(address), "/teacher/path")):
            response = client.post(f"{V1}/jobs", json=spec)
            _refused(response, 422)
            assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
            assert "address" in response.json()["detail"]
    assert calls == []


@pytest.fixture
def confined(settings: Settings) -> Iterator[TestClient]:
    with make_client(replace(settings, data_roots=("/data", "/models"))) as client:
        yield client


def test_paths_outside_of_the_configured_folders_are_refused(confined: TestClient) -> None:
    for spec, pointer in [
        (_with_data(root="/etc"), "/data/root"),
        (_with_data(root="/"), "/data/root"),
        (_with_data(root="/data/../etc"), "/data/root"),
        (_with_data(root="/database"), "/data/root"),
        (_with_data(root="data"), "/data/root"),
        (_with_data(root="~/data"), "/data/root"),
        (_with_data(root=""), "/data/root"),
        (_with_teacher("/etc/shadow"), "/teacher/path"),
        (_with_teacher("/proc/self/environ"), "/teacher/path"),
        (_with_teacher("/models/../../root/.ssh/id_rsa"), "/teacher/path"),
        (_with_teacher("models/teacher.safetensors"), "/teacher/path"),
    ]:
        response = confined.post(f"{V1}/jobs", json=spec)
        _refused(response, 422)
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
        assert "/data, /models" in response.json()["detail"]
        verdict = confined.post(f"{V1}/jobs:validate", json=spec).json()
        assert (verdict["ok"], [error["pointer"] for error in verdict["errors"]]) == (False, [pointer])


def test_paths_inside_of_the_configured_folders_are_taken(confined: TestClient, client: TestClient) -> None:
    submit(confined, _with_data(root="/data"))
    submit(confined, _with_data(root="/data/./sets//voc/"))
    submit(confined, _with_teacher("/models/teacher.safetensors"))
    submit(confined, tiny_spec())  # generated scenes need no folder
    submit(client, _with_data(root="/anywhere"))  # a laptop without the setting


def test_workers_are_told_the_folders_so_that_they_follow_links(settings: Settings) -> None:
    with make_client(replace(settings, data_roots=("/data",))) as client:
        _, worker = start(client, _with_data(root="/data/voc"))
        assert worker.ticket().json()["data_roots"] == ["/data"]
