"""How each process of an installation is called and what it finds in its environment, wherever it runs.

`bcd up` starts these commands as one tree; a container or a unit of systemd runs `python -m service.processes NAME`,
which becomes that process. All of them read `BCD_*` variables (docs/deployment.md).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bcd.records import TRAINS
from service.settings import Settings

OBJECT_STORE_BYTES = 200_000_000  # nothing uses Ray's object store yet
LONGEST_TEMP = 30  # characters; Ray's socket paths must stay below 107
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Process:
    command: list[str]
    environment: dict[str, str]
    """Everything it finds there, what it inherits included."""


def api(settings: Settings) -> Process:
    return Process([sys.executable, "-m", "service.app"], environment(settings))


def dispatcher(settings: Settings) -> Process:
    return Process([sys.executable, "-m", "service.dispatch"], environment(settings))


def mlflow(settings: Settings) -> Process:
    """The MLflow server: on loopback, or where `BCD_MLFLOW_URL` says that the others find it."""
    url = urlsplit(settings.mlflow_url)
    host, port = str(url.hostname), str(url.port or (443 if url.scheme == "https" else 80))
    command = [
        sys.executable, "-m", "mlflow", "server", "--port", port, "--workers", "1",
        "--backend-store-uri", f"sqlite:///{settings.home / 'mlflow' / 'mlflow.db'}",
        "--artifacts-destination", str(settings.home / "mlflow" / "artifacts"),
    ]  # fmt: skip
    if host in LOOPBACK:
        command += ["--host", host]
    else:
        names = [f"{name}:{port}" for name in (host, *LOOPBACK[:2])]
        command += ["--host", "0.0.0.0", "--allowed-hosts", ",".join(names)]
    return Process(command, _without_secrets(environment(settings)))


def ray_head(settings: Settings, *, cpus: int = 0) -> Process:
    """The head of the cluster. With no CPUs it trains nothing: that is for the nodes."""
    command = [
        *_ray_node(settings, cpus), "--head", "--port", str(settings.ray_head[1]), "--include-dashboard=false",
        "--temp-dir", str(ray_folder(settings)), "--no-monitor",
    ]  # fmt: skip
    return Process(command, _without_secrets(environment(settings)))


def ray_node(settings: Settings, *, cpus: int | None = None) -> Process:
    """A machine of the cluster, with all its CPUs and GPUs; with no CPUs it trains nothing."""
    host, port = settings.ray_head
    command = [*_ray_node(settings, cpus), "--address", f"{host}:{port}"]
    return Process(command, _without_secrets(environment(settings)))


PROCESSES = {"api": api, "dispatcher": dispatcher, "mlflow": mlflow, "ray-head": ray_head, "ray-node": ray_node}


def environment(settings: Settings) -> dict[str, str]:
    root = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    # Ray's own variables of another cluster, or of another way to sign in, would win over ours.
    inherited = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN")}
    alone = settings.ray_head[0] in LOOPBACK
    return {
        **inherited,
        **settings.environment(),
        "PYTHONPATH": root if not path else f"{root}{os.pathsep}{path}",
        "PYTHONUNBUFFERED": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(settings.ray_token_file),
        # 0, on every system: keeps a cluster of one machine on loopback
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if alone else "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes instead of 10
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def ray_folder(settings: Settings) -> Path:
    """Ray's folder for this home: short, because the paths of its sockets may have 107 characters at most."""
    base = tempfile.gettempdir()
    if len(base) > LONGEST_TEMP and os.path.isdir("/tmp"):
        base = "/tmp"
    return Path(base) / f"bcd-{hashlib.sha256(str(settings.home).encode()).hexdigest()[:10]}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.processes", description="Become a process of bcd.")
    parser.add_argument("name", choices=sorted(PROCESSES))
    settings = Settings.load()
    process = PROCESSES[parser.parse_args(argv).name](settings)
    os.execvpe(process.command[0], process.command, process.environment)


def _ray_node(settings: Settings, cpus: int | None) -> list[str]:
    given = ["--num-cpus", "0", "--num-gpus", "0"] if cpus == 0 else ["--resources", json.dumps({TRAINS: 1_000_000})]
    given += ["--num-cpus", str(cpus)] if cpus else []
    return [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
        "--node-ip-address", _own_address(settings), "--include-log-monitor=false",
        "--object-store-memory", str(OBJECT_STORE_BYTES),
        # Ray's default ranges and fixed ports may be taken, by another installation for one: let the system choose.
        "--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0",
        *given,
    ]  # fmt: skip


def _own_address(settings: Settings) -> str:
    """The address of this machine that the others of its cluster see: the one from which it reaches the head."""
    host, port = settings.ray_head
    if host in LOOPBACK:
        return "127.0.0.1"
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise SystemExit(f"BCD_RAY_ADDRESS={settings.ray_address}: cannot find the way to {host}: {error}") from None


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """For those that need neither database nor API token; Ray's workers inherit what its nodes have."""
    kept = ("BCD_RAY_TOKEN_FILE",)
    secret = [key for key in environment if key.startswith("BCD_DATABASE_") or key.endswith("_FILE")]
    return {key: value for key, value in environment.items() if key not in secret or key in kept}


if __name__ == "__main__":
    sys.exit(main())
