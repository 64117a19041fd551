"""A real MLflow server for tests: on a free port of 127.0.0.1, in a temporary folder, gone afterwards.

`Faults` stands between a client and it and breaks requests, before or after they have had their effect.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

PATIENCE = 180.0  # seconds; importing MLflow takes ten of a free core


class MlflowServer:
    """`with MlflowServer(folder) as server: server.url`. For one thread at a time."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> MlflowServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        environment = {
            **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }  # fmt: skip
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}",
            "--artifacts-destination", str(self._folder / "artifacts"),
        ]  # fmt: skip
        with (self._folder / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "mlflow.log").read_text()[-3000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill it with its children, as a crash would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def lose_everything(self) -> None:
        """What its database holds of runs, experiments and models is gone."""
        with contextlib.closing(sqlite3.connect(self._folder / "mlflow.db", timeout=30)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                if not table.startswith(("alembic", "sqlite", "workspaces")):
                    database.execute(f'DELETE FROM "{table}"')
            database.commit()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False


class Faults(httpx.BaseTransport):
    """Passes requests on, or breaks them: `fault(request)` says refused, 500, 400, lost (it had its effect) or None."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.fault: Callable[[httpx.Request], str | None] = lambda request: None
        self.requests: list[str] = []  # what was asked, but for health

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        fault = self.fault(request)
        if request.url.path != "/health":
            self.requests.append(f"{request.method} {request.url.path.removeprefix('/api/2.0/')}")
        if fault == "refused":
            raise httpx.ConnectError("connection refused")
        if fault == "500":
            return httpx.Response(500, text="oops", request=request)
        if fault == "400":
            problem = {"error_code": "INVALID_PARAMETER_VALUE", "message": "not this one"}
            return httpx.Response(400, json=problem, request=request)
        response = self._inner.handle_request(request)
        response.read()
        if fault == "lost":
            raise httpx.ReadTimeout("too slow")
        return response

    def close(self) -> None:
        self._inner.close()
