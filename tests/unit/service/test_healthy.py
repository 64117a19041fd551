"""Health checks say what is wrong and ask nobody outside the container."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from service.healthy import CHECKS
from service.processes import PROCESSES


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in ("/readyz", "/health") else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _ask(name: str, home: Path, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "service.healthy", name], capture_output=True, text=True,
        env={**os.environ, "BCD_HOME": str(home), **environment},
    )  # fmt: skip
    return done.returncode, done.stderr


def test_every_process_has_a_check() -> None:
    assert set(CHECKS) == set(PROCESSES)


@pytest.mark.parametrize(("name", "variable"), [("api", "BCD_API_PORT"), ("mlflow", "BCD_MLFLOW_PORT")])
def test_a_server_is_healthy_while_it_answers(tmp_path: Path, server: HTTPServer, name: str, variable: str) -> None:
    port = str(server.server_port)
    assert _ask(name, tmp_path, **{variable: port}) == (0, "")


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("api", "BCD_API_PORT"),
        ("mlflow", "BCD_MLFLOW_PORT"),
        ("ray-head", "BCD_RAY_PORT"),
        ("ray-node", "BCD_RAY_PORT"),
    ],
)
def test_a_port_where_nobody_listens_is_named(tmp_path: Path, name: str, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    code, said = _ask(name, tmp_path, **{variable: port})
    assert code == 1
    assert port in said
    assert "Traceback" not in said


def test_a_dispatcher_is_healthy_once_it_is_connected_and_lives(tmp_path: Path) -> None:
    assert _ask("dispatcher", tmp_path) == (1, "the dispatcher is not connected to Ray\n")
    (tmp_path / "run").mkdir()
    state = tmp_path / "run" / "dispatcher.json"
    state.write_text(json.dumps({"pid": os.getpid(), "warm_workers": 0}))
    assert _ask("dispatcher", tmp_path)[0] == 0
    ended = subprocess.Popen(["true"])
    ended.wait()
    state.write_text(json.dumps({"pid": ended.pid, "warm_workers": 0}))
    assert _ask("dispatcher", tmp_path)[0] == 1


def test_a_check_loads_nothing_heavy() -> None:
    program = "import sys, service.healthy; print(sorted({'httpx', 'sqlalchemy', 'torch', 'ray'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
