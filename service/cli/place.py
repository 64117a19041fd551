"""Which installation a command means, and on which ports it serves.

`bcd up` writes its ports to HOME/run/ports.json, so that every other command on the same home finds it; the `BCD_*`
variables still win.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from service.settings import Settings

PORTS = ("api_port", "mlflow_port", "ray_port")


def settings_of(home: Path | None) -> Settings:
    """The settings of the installation in `home` (default: BCD_HOME, else .bcd here), as it was last started."""
    settings = Settings.load(home)
    try:
        written = json.loads(_ports_file(settings).read_text(encoding="utf-8"))
        known = {name: int(written[name]) for name in PORTS if f"BCD_{name.upper()}" not in os.environ}
    except (OSError, ValueError, KeyError, TypeError):
        return settings
    return Settings.load(home, **known)


def settings_to_start(home: Path | None, port: int | None, *, any_port: bool = False) -> Settings:
    """The settings with which to start the service in `home`.

    `port`: of the API, the next two are for MLflow and Ray; None: the usual ones. `any_port`: take others when one of
    those is in use.
    """
    ports = {} if port is None else dict(zip(PORTS, (port, port + 1, port + 2), strict=True))
    settings = Settings.load(home, **ports)
    if any_port and not all(_is_free(getattr(settings, name)) for name in PORTS):
        settings = Settings.load(home, **dict(zip(PORTS, _free_ports(len(PORTS)), strict=True)))
    return settings


def write_ports(settings: Settings) -> None:
    """Let other commands find the service that now runs in this home."""
    aside = _ports_file(settings).with_suffix(".new")
    aside.write_text(json.dumps({name: getattr(settings, name) for name in PORTS}), encoding="utf-8")
    aside.replace(_ports_file(settings))


def _ports_file(settings: Settings) -> Path:
    return settings.run / "ports.json"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port in TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
