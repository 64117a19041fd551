"""A real Ray head without token authentication: the dispatcher does not work with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.dispatch.ray_door import try_door
from tests.helpers.installation import PATIENCE, eventually, free_ports

pytestmark = pytest.mark.e2e


@pytest.fixture
def open_ray() -> Iterator[int]:
    """The port of a head that asks nobody for a token."""
    (port,) = free_ports(1)
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="bcd-ray-") as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port),
            "--node-ip-address", "127.0.0.1", "--include-dashboard=false", "--disable-usage-stats",
            "--temp-dir", folder, "--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", "100000000",
        ]  # fmt: skip
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield port
        finally:
            tree = [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
            for one in tree:
                one.kill()
            process.wait(timeout=60)


def test_a_ray_that_asks_nobody_for_a_token_is_refused(open_ray: int, tmp_path: Path) -> None:
    eventually(lambda: try_door("127.0.0.1", open_ray), lambda door: door == "open")
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "ray-token")}
    (tmp_path / "ray-token").write_text("0" * 64)
    environment |= {"BCD_RAY_PORT": str(open_ray), "BCD_HOME": str(tmp_path / "home")}
    prepare = "from service.app import prepare; from service.settings import Settings; prepare(Settings.load())"
    subprocess.run([sys.executable, "-c", prepare], env=environment, check=True, timeout=PATIENCE)
    done = subprocess.run(
        [sys.executable, "-m", "service.dispatch"], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "answers without a token" in done.stderr
