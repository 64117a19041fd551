"""Is the process of this container well? `python -m service.healthy NAME` ends with 0 if so, with 1 and a line if not.

For health checks: light to import, asks only its own container, and needs no secret.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from service.settings import Settings

PATIENCE = 5.0  # seconds


class Unhealthy(Exception):
    """What is wrong, in a line."""


def api(settings: Settings) -> None:
    """Also: does its database answer, and has it the right schema?"""
    _answers(settings.api_port, "/readyz")


def mlflow(settings: Settings) -> None:
    url = urlsplit(settings.mlflow_url)
    _answers(url.port or 80, "/health")


def dispatcher(settings: Settings) -> None:
    """It writes down its process id once it is connected to Ray, and ends by itself when a round hangs."""
    try:
        pid = json.loads((settings.run / "dispatcher.json").read_text(encoding="utf-8"))["pid"]
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        raise Unhealthy("the dispatcher is not connected to Ray") from None


def ray_head(settings: Settings) -> None:
    _listens(*settings.ray_head)


def ray_node(settings: Settings) -> None:
    """`ray start --block` ends together with its node, so what is left to ask is whether the head is there."""
    _listens(*settings.ray_head)


CHECKS: dict[str, Callable[[Settings], None]] = {
    "api": api, "dispatcher": dispatcher, "mlflow": mlflow, "ray-head": ray_head, "ray-node": ray_node,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.healthy", description="Is a process of bcd well?")
    parser.add_argument("name", choices=sorted(CHECKS))
    try:
        CHECKS[parser.parse_args(argv).name](Settings.load())
    except Unhealthy as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _answers(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Unhealthy(f"nothing answers on port {port}: {error}") from None
    finally:
        connection.close()
    if status != 200:
        raise Unhealthy(f"{path} answers with status {status}")


def _listens(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError as error:
        raise Unhealthy(f"nothing listens at {host}:{port}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
