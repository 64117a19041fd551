"""Where an installation keeps its things and which addresses it uses. Everything lives under one home folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT_HOME = ".bcd"


@dataclass(frozen=True)
class Settings:
    """Resolved settings of one installation; `Settings.load()` reads `BCD_*` environment variables.

    All times are in seconds. `public_api_url` (`BCD_API_URL`) is where workers reach the API, and `ray_address`
    (`BCD_RAY_ADDRESS`, host:port) where Ray's head listens; both are on this machine where they are left empty.
    """

    home: Path
    database_url: str
    api_host: str = "127.0.0.1"
    api_port: int = 8765
    mlflow_port: int = 8766
    ray_port: int = 8767
    public_api_url: str = ""
    ray_address: str = ""
    lease_seconds: float = 30.0
    poll_seconds: float = 0.3
    max_body_bytes: int = 1_000_000
    max_attempts: int = 5
    allowed_hosts: tuple[str, ...] = field(default=("127.0.0.1", "localhost", "testserver"))

    @property
    def run(self) -> Path:
        """Pid files, secrets and the record of the running tree."""
        return self.home / "run"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def storage(self) -> Path:
        """Content-addressed files: `objects/ab/<sha256>`."""
        return self.home / "storage"

    @property
    def data_cache(self) -> Path:
        return self.home / "cache" / "data"

    @property
    def work(self) -> Path:
        """Outboxes and checkpoints of running attempts."""
        return self.home / "work"

    @property
    def token_file(self) -> Path:
        """The API token of this installation's owner (0600)."""
        return self.run / "api-token"

    @property
    def secret_file(self) -> Path:
        """Key from which attempt tokens are derived (0600)."""
        return self.run / "secret"

    @property
    def api_url(self) -> str:
        return f"http://{self.api_host}:{self.api_port}"

    @property
    def worker_api_url(self) -> str:
        """The API's address as workers see it."""
        return self.public_api_url or self.api_url

    @property
    def ray_head(self) -> tuple[str, int]:
        """Host and port of Ray's head."""
        if not self.ray_address:
            return "127.0.0.1", self.ray_port
        parts = urlsplit(f"//{self.ray_address}")
        return str(parts.hostname), int(parts.port or 0)

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    @classmethod
    def load(cls, home: str | Path | None = None, **overrides: object) -> Settings:
        """Settings for `home` (default: `BCD_HOME`, else `.bcd` here), then `BCD_*` variables, then overrides."""
        place = Path(home or os.environ.get("BCD_HOME") or DEFAULT_HOME).expanduser().resolve()
        values: dict[str, object] = {"home": place, "database_url": f"sqlite:///{place / 'bcd.db'}"}
        readers: dict[str, Any] = {
            "database_url": str, "api_port": int, "mlflow_port": int, "ray_port": int,
            "lease_seconds": float, "poll_seconds": float, "max_attempts": int,
            "public_api_url": http_address, "ray_address": host_and_port,
        }  # fmt: skip
        for name, read in readers.items():
            variable = "BCD_API_URL" if name == "public_api_url" else f"BCD_{name.upper()}"
            text = os.environ.get(variable)
            if text:
                try:
                    values[name] = read(text)
                except ValueError:
                    what = read.__name__.replace("_", " ")
                    raise SystemExit(f"{variable}={text!r} is not a valid {what}") from None
        values.update(overrides)
        return cls(**values)  # type: ignore[arg-type]


def http_address(text: str) -> str:
    """Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(text)
    return text.rstrip("/")


def host_and_port(text: str) -> str:
    """Raises ValueError."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.port is None or parts.path or parts.username is not None:
        raise ValueError(text)
    return text
