"""Where an installation keeps its things and which addresses it uses. Everything lives under one home folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bcd.storage import BadAddress, read_address

DEFAULT_HOME = ".bcd"


@dataclass(frozen=True)
class Settings:
    """Resolved settings of one installation; `Settings.load()` reads `BCD_*` environment variables.

    All times are in seconds. `leader_seconds`: a dispatcher that was not heard of for so long is replaced by another
    one. `start_seconds`: a worker that did not begin by then is started again, and given up after as long once more.
    `stop_seconds`: what a worker gets to write a checkpoint and stop when its job is cancelled or paused.
    `retry_seconds`: the pause after a fault of the infrastructure, doubled with each that follows.
    `unplaceable_seconds`: how long a job waits for a node that could hold it where none was ever seen.
    """

    home: Path
    database_url: str
    storage_uri: str
    """Where checkpoints and results are: an absolute folder, or `s3://bucket/prefix`."""
    api_host: str = "127.0.0.1"
    api_port: int = 8765
    mlflow_port: int = 8766
    ray_port: int = 8767
    lease_seconds: float = 30.0
    poll_seconds: float = 0.3
    max_body_bytes: int = 1_000_000
    max_attempts: int = 5
    leader_seconds: float = 10.0
    start_seconds: float = 120.0  # a cold worker on a busy machine needs a good part of a minute to import torch
    stop_seconds: float = 45.0
    retry_seconds: float = 1.0
    unplaceable_seconds: float = 600.0
    allowed_hosts: tuple[str, ...] = field(default=("127.0.0.1", "localhost", "testserver"))
    # Proxies whose X-Forwarded-For and -Proto are believed; without them every caller behind one has its address.
    trusted_proxies: tuple[str, ...] = ()
    # Requests as COUNT/minute (or second, hour), `off` for no limit: of one token, of an address without a token, and
    # of an address with wrong tokens. The first is high because all commands on a laptop share one token.
    rate_limit: str = "3000/minute"
    rate_limit_anonymous: str = "300/minute"
    rate_limit_failures: str = "20/minute"
    session_seconds: float = 7 * 24 * 3600.0  # a browser's session ends so long after its last use
    # Folders that data sets and teachers of specs must lie in, as the workers see them; none: anywhere.
    data_roots: tuple[str, ...] = ()

    # Addresses as people reach them, for links: of the API, and of MLflow. Empty: those that the processes use.
    public_url: str = ""
    mlflow_public_url: str = ""
    # Hosts, addresses and networks that webhooks may reach although they are not public.
    webhook_allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, default in (("public_url", self.api_url), ("mlflow_public_url", self.mlflow_url)):
            object.__setattr__(self, name, (getattr(self, name) or default).rstrip("/"))

    @property
    def run(self) -> Path:
        """Pid files, secrets and the record of the running tree."""
        return self.home / "run"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def storage(self) -> Path | None:
        """The storage folder; None when storage is not a local folder."""
        place = read_address(self.storage_uri)
        return place if isinstance(place, Path) else None

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
        values: dict[str, object] = {
            "home": place,
            "database_url": f"sqlite:///{place / 'bcd.db'}",
            "storage_uri": os.environ.get("BCD_STORAGE") or str(place / "storage"),
        }
        readers: dict[str, Callable[[str], object]] = {
            "database_url": str, "api_port": int, "mlflow_port": int, "ray_port": int,
            "lease_seconds": float, "poll_seconds": float, "max_attempts": int, "leader_seconds": float,
            "start_seconds": float, "stop_seconds": float, "retry_seconds": float, "unplaceable_seconds": float,
            "rate_limit": _rate, "rate_limit_anonymous": _rate, "rate_limit_failures": _rate, "session_seconds": float,
            "trusted_proxies": _names, "data_roots": _folders,
            "public_url": str, "mlflow_public_url": str, "webhook_allow": _names,
        }  # fmt: skip
        for name, read in readers.items():
            text = os.environ.get(f"BCD_{name.upper()}")
            if text:
                try:
                    values[name] = read(text)
                except ValueError as error:
                    why = f"is not a valid {read.__name__}" if isinstance(read, type) else error
                    raise SystemExit(f"BCD_{name.upper()}={text!r} {why}") from None
        values.update(overrides)
        try:
            read_address(str(values["storage_uri"]))
        except BadAddress as error:
            raise SystemExit(f"BCD_STORAGE: {error}") from None
        return cls(**values)  # type: ignore[arg-type]


def _rate(text: str) -> str:
    if text != "off" and not re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour)", text):
        raise ValueError("is no rate: write 600/minute, 10/second, or off")
    return text


def _names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _folders(text: str) -> tuple[str, ...]:
    """Folders separated by colons."""
    folders = tuple(part for part in text.split(os.pathsep) if part)
    for folder in folders:
        if not os.path.isabs(folder):
            raise ValueError(f"holds {folder!r}: give absolute folders, separated by {os.pathsep!r}")
    return tuple(os.path.normpath(folder) for folder in folders)
