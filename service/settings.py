"""Where an installation keeps its things and which addresses it uses. Everything lives under one home folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_HOME = ".bcd"


@dataclass(frozen=True)
class Settings:
    """Resolved settings of one installation; `Settings.load()` reads `BCD_*` environment variables.

    All times are in seconds.
    """

    home: Path
    database_url: str
    api_host: str = "127.0.0.1"
    api_port: int = 8765
    mlflow_port: int = 8766
    ray_port: int = 8767
    lease_seconds: float = 30.0
    poll_seconds: float = 0.3
    max_body_bytes: int = 1_000_000
    max_attempts: int = 5
    keep_best: int = 1  # checkpoints kept for the best evaluations, beside the newest ones
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
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    @classmethod
    def load(cls, home: str | Path | None = None, **overrides: object) -> Settings:
        """Settings for `home` (default: `BCD_HOME`, else `.bcd` here), then `BCD_*` variables, then overrides."""
        place = Path(home or os.environ.get("BCD_HOME") or DEFAULT_HOME).expanduser().resolve()
        values: dict[str, object] = {"home": place, "database_url": f"sqlite:///{place / 'bcd.db'}"}
        readers = {
            "database_url": str, "api_port": int, "mlflow_port": int, "ray_port": int,
            "lease_seconds": float, "poll_seconds": float, "max_attempts": int,
            "keep_best": int,
        }  # fmt: skip
        for name, read in readers.items():
            text = os.environ.get(f"BCD_{name.upper()}")
            if text:
                try:
                    values[name] = read(text)
                except ValueError:
                    raise SystemExit(f"BCD_{name.upper()}={text!r} is not a valid {read.__name__}") from None
        values.update(overrides)
        return cls(**values)  # type: ignore[arg-type]
