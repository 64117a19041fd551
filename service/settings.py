"""Where an installation keeps its things and which addresses it uses. Everything lives under one home folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bcd.storage import BadAddress, read_address
from service.variables import VARIABLES, database_url

DEFAULT_HOME = ".bcd"
OWN_HOSTS = ("127.0.0.1", "localhost", "testserver")


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
    database_url: str = field(repr=False)  # may hold a password
    storage_uri: str
    """Where checkpoints and results are: an absolute folder, or `s3://bucket/prefix`."""
    token_file: Path
    """The first API token, of the user `admin` (0600)."""
    secret_file: Path
    """Key from which attempt tokens are derived (0600)."""
    ray_token_file: Path
    """What a process must know to talk to Ray (0600)."""
    api_host: str = "127.0.0.1"
    api_port: int = 8765
    mlflow_port: int = 8766
    ray_port: int = 8767
    # Where the others are; what is empty is on this machine.
    public_api_url: str = ""  # http://host:port at which workers reach the API
    mlflow_address: str = ""  # http://host:port of an MLflow server
    ray_address: str = ""  # host:port of the head of a Ray cluster
    lease_seconds: float = 30.0
    poll_seconds: float = 0.3
    max_body_bytes: int = 1_000_000
    max_attempts: int = 5
    keep_best: int = 1  # checkpoints kept for the best evaluations, beside the newest ones
    leader_seconds: float = 10.0
    start_seconds: float = 120.0  # a cold worker on a busy machine needs a good part of a minute to import torch
    stop_seconds: float = 45.0
    retry_seconds: float = 1.0
    unplaceable_seconds: float | None = None  # None: ten minutes; seconds where all of the cluster is this machine
    spares: int | None = None  # idle workers that the dispatcher keeps warm; None: two, or one if there is one CPU
    other_hosts: tuple[str, ...] = ()  # names besides this machine's own for which the API answers
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
    def api_url(self) -> str:
        """The API's address on its own machine."""
        everywhere = self.api_host in ("0.0.0.0", "::")
        return f"http://{'127.0.0.1' if everywhere else self.api_host}:{self.api_port}"

    @property
    def unplaceable_patience(self) -> float:
        if self.unplaceable_seconds is not None:
            return self.unplaceable_seconds
        return 600.0 if self.ray_address else 5.0

    @property
    def worker_api_url(self) -> str:
        """The API's address as workers see it."""
        return self.public_api_url or self.api_url

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """For which Host headers the API answers."""
        given = (urlsplit(url).hostname for url in (self.public_api_url, self.public_url))
        return (*OWN_HOSTS, *self.other_hosts, *(name for name in given if name))

    @property
    def mlflow_url(self) -> str:
        return self.mlflow_address or f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def ray_head(self) -> tuple[str, int]:
        """Host and port of Ray's head."""
        if not self.ray_address:
            return "127.0.0.1", self.ray_port
        parts = urlsplit(f"//{self.ray_address}")
        return str(parts.hostname), int(parts.port or 0)

    @classmethod
    def load(cls, home: str | Path | None = None, **overrides: Any) -> Settings:
        """Settings for `home` (default: `BCD_HOME`, else `.bcd` here), then `BCD_*` variables, then overrides."""
        place = Path(home or os.environ.get("BCD_HOME") or DEFAULT_HOME).expanduser().resolve()
        values: dict[str, Any] = {
            "home": place,
            "storage_uri": str(place / "storage"),
            "token_file": place / "run" / "api-token",
            "secret_file": place / "run" / "secret",
            "ray_token_file": place / "run" / "ray-token",
        }
        for variable, (name, read) in VARIABLES.items():
            text = os.environ.get(variable)
            if text:
                try:
                    values[name] = read(text)
                except ValueError as error:
                    raise SystemExit(f"{variable}={text!r} {error}") from None
        values["database_url"] = database_url(place, os.environ)
        values.update(overrides)
        try:
            read_address(str(values["storage_uri"]))
        except BadAddress as error:
            raise SystemExit(f"BCD_STORAGE: {error}") from None
        return cls(**values)

    def environment(self) -> dict[str, str]:
        """The variables from which `load` makes these settings again in a child process that inherits ours."""
        found = {"BCD_HOME": str(self.home)}
        for variable, (name, _) in VARIABLES.items():
            value = getattr(self, name)
            if isinstance(value, tuple):
                value = (os.pathsep if name == "data_roots" else ",").join(value)
            found[variable] = "" if value is None else str(value)
        if self.database_url == database_url(self.home, os.environ):
            del found["BCD_DATABASE_URL"]  # it can read that itself, and a password stays in its file
        return found
