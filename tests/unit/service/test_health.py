"""Those who watch the service get true answers: up, ready, figures; and the log tells what each line is about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from service import process_log, telemetry
from service.health import installation
from service.settings import Settings
from tests.helpers.api import finish, make_client, start, submit


def test_a_process_with_its_database_is_ready_and_says_whether_a_dispatcher_is_at_work(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    checks = {check["name"]: check["ok"] for check in answer.json()["checks"]}
    assert checks == {"database": True, "schema": True, "dispatcher": False}


def test_a_process_whose_schema_is_another_is_not_ready_and_still_up(client: TestClient) -> None:
    with client.app.state.db.write() as session:  # type: ignore[attr-defined]
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert client.get("/healthz").status_code == 200
    with client.app.state.db.write() as session:  # type: ignore[attr-defined]
        session.execute(text("UPDATE alembic_version SET version_num = '0002'"))


def test_the_figures_are_those_of_the_database_and_of_the_requests(client: TestClient) -> None:
    finish(client, None, 30.0)
    start(client)
    submit(client)
    client.get("/api/v1/jobs/job_nobody")
    text_ = client.get("/metrics").text
    assert 'bcd_jobs{project="default",state="succeeded"} 1.0' in text_
    assert 'bcd_jobs{project="default",state="queued"} 1.0' in text_
    assert "bcd_attempts_live 1.0" in text_
    assert 'bcd_resources_held{kind="cpu"} 1.0' in text_
    assert "bcd_database_up 1.0" in text_
    assert 'bcd_http_requests_total{method="GET",route="/api/v1/jobs/{job_id}",status="404"} 1.0' in text_
    assert "job_nobody" not in text_


def test_figures_are_for_administrators(settings: Settings) -> None:
    with make_client(settings, token=None) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/readyz").status_code == 200


def test_json_lines_carry_the_ids_of_what_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    formatter = process_log.JsonLines("api")
    record = logging.LogRecord("bcd.api", logging.WARNING, __file__, 1, "cannot read %s", ("x",), None)
    with process_log.about(job_id="job_1", attempt_id=None), process_log.about(request_id="r1"):
        line = json.loads(formatter.format(record))
    assert line.items() >= {
        "level": "warning", "process": "api", "logger": "bcd.api", "message": "cannot read x", "job_id": "job_1",
        "request_id": "r1",
    }.items()  # fmt: skip
    assert "attempt_id" not in line
    assert "job_id" not in json.loads(formatter.format(record))


def test_a_log_format_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCD_LOG_FORMAT", "xml")
    with pytest.raises(SystemExit, match="text or json"):
        process_log.configure("api")


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes traces, as a collector does."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_requests_become_spans_of_the_callers_trace(
    settings: Settings, collector: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    address, got = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    trace = "0af7651916cd43dd8448eb211c80319c"
    with make_client(settings) as client:
        job = submit(client)["id"]
        client.get(f"/api/v1/jobs/{job}", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    spans = [
        span
        for body in got
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert {span.name for span in spans} >= {"POST /api/v1/jobs", "GET /api/v1/jobs/{job_id}"}
    assert [span.trace_id.hex() for span in spans if span.name.startswith("GET /api/v1/jobs/")] == [trace]


def test_without_an_endpoint_there_are_no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert telemetry.provider("api") is None


def test_the_doctor_finds_secrets_that_others_may_read_and_a_service_that_is_down(settings: Settings) -> None:
    settings.secret_file.chmod(0o644)
    found = {(one.check, one.verdict) for one in installation.look(settings)}
    assert {("secrets", "fail"), ("secrets", "ok"), ("storage", "ok"), ("database", "ok"), ("api", "warn")} <= found
    settings.secret_file.chmod(0o600)
    assert ("secrets", "fail") not in {(one.check, one.verdict) for one in installation.look(settings)}


def test_the_doctor_asks_of_mounted_secrets_only_that_they_are_there(settings: Settings, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.write_text("x" * 40)
    mounted.chmod(0o444)  # as containers see them: other users are kept out by the folder on the host
    given = replace(settings, token_file=mounted, secret_file=mounted)
    assert ("secrets", "fail") not in {(one.check, one.verdict) for one in installation.look(given)}
    mounted.unlink()
    assert ("secrets", "fail") in {(one.check, one.verdict) for one in installation.look(given)}
