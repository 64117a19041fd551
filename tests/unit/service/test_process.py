"""The API as a process: what it imports, and that it serves and stops while streams are open."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from service.auth import owner_token
from service.settings import Settings

CREATE_APP = """
import sys
from service.app import create_app, prepare
from service.settings import Settings
settings = Settings.load(sys.argv[1])
prepare(settings)
create_app(settings).openapi()
loaded = {name.split(".")[0] for name in sys.modules}
heavy = {"torch", "torchvision", "ray", "mlflow", "workers", "sklearn", "pandas", "boto3", "moto"} & loaded
sys.exit(f"imported {sorted(heavy)}" if heavy else 0)
"""


def test_the_application_imports_neither_torch_nor_ray_nor_mlflow(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CREATE_APP, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_on_s3_it_imports_what_speaks_to_it_and_still_no_torch(tmp_path: Path) -> None:
    code = CREATE_APP.replace('"boto3", ', "").replace("loaded =", "import bcd.storage.s3\nloaded =")
    env = {**os.environ, "BCD_STORAGE": "s3://bucket/place"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_process_serves_and_stops_cleanly_with_an_open_stream(tmp_path: Path) -> None:
    port = _free_port()
    env = {**os.environ, "BCD_API_PORT": str(port)}
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen([sys.executable, "-m", "service.app", "--home", str(tmp_path)], env=env, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            _wait_until_up(client, process)
            client.headers["Authorization"] = f"Bearer {owner_token(Settings.load(tmp_path))}"
            big = client.post("/api/v1/jobs", content=b" " * 5_000_000)
            assert (big.status_code, "1000000 bytes" in big.text) == (413, True)
            with client.stream("GET", "/api/v1/events") as stream:
                text = stream.iter_text()
                assert next(text).startswith(": ping\n")
                process.send_signal(signal.SIGTERM)
                assert "".join(text) == ""  # ended by the server, not broken off
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()
    told = (tmp_path / "log").read_text()
    assert "Traceback" not in told
    assert "ERROR" not in told, told
    assert "413 POST" in told


def _wait_until_up(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the process ended"
        try:
            assert client.get("/healthz").json() == {"status": "ok"}
            return
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError("the process did not answer")
