"""The `BCD_*` variables that settings are read from, and what their text must look like."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit


def database_url(home: Path, environment: Mapping[str, str]) -> str:
    """The database's address: `BCD_DATABASE_URL_FILE` or `BCD_DATABASE_URL`, else SQLite in the home folder.

    `BCD_DATABASE_PASSWORD_FILE` gives the password where the address has a user without one. Raises SystemExit.
    """
    url = environment.get("BCD_DATABASE_URL") or f"sqlite:///{home / 'bcd.db'}"
    file = environment.get("BCD_DATABASE_URL_FILE")
    if file:
        if environment.get("BCD_DATABASE_URL"):
            raise SystemExit("BCD_DATABASE_URL and BCD_DATABASE_URL_FILE are both set: keep one")
        url = read_secret("BCD_DATABASE_URL_FILE", file)
    password_file = environment.get("BCD_DATABASE_PASSWORD_FILE")
    if password_file:
        from sqlalchemy import make_url  # a third of a second that most commands need not spend

        parsed = make_url(url)
        if parsed.username and parsed.password is None:
            password = read_secret("BCD_DATABASE_PASSWORD_FILE", password_file)
            url = parsed.set(password=password).render_as_string(hide_password=False)
    return url


def read_secret(variable: str, path: str | Path) -> str:
    """The one line in a file that `variable` names. Raises SystemExit."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SystemExit(f"{variable}: cannot read {path}: {why}") from None
    if not text or "\n" in text:
        raise SystemExit(f"{variable}: {path} must hold exactly one line")
    return text


# ------------------------------------------------- readers: each raises ValueError with what the text must be


def _port(text: str) -> int:
    number = _whole(text)
    if not 0 < number < 65536:
        raise ValueError("must be a port, 1 to 65535")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return seconds


def _count(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise ValueError("must be a whole number above 0")
    return number


def _count_or_none(text: str) -> int:
    number = _whole(text)
    if number < 0:
        raise ValueError("must be a whole number")
    return number


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1


def _rate(text: str) -> str:
    if text != "off" and not re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour)", text):
        raise ValueError("is no rate: write 600/minute, 10/second, or off")
    return text


def _http_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address such as http://host:8765")
    return text.rstrip("/")


def _host_and_port(text: str) -> str:
    problem = "must be host:port"
    try:
        parts = urlsplit(f"//{text}")
        complete = bool(parts.hostname) and parts.port is not None
    except ValueError:
        raise ValueError(problem) from None
    if not complete or parts.path or parts.username is not None:
        raise ValueError(problem)
    return text


def _link(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an address as people open it: http(s)://host[:port][/path]")
    return text.rstrip("/")


def _names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _host_names(text: str) -> tuple[str, ...]:
    names = tuple(name.lower() for name in _names(text))
    if not all(name.isascii() and not set(name) & set("/*@ ") for name in names):
        raise ValueError("must be host names without port, with commas between them")
    return names


def _folders(text: str) -> tuple[str, ...]:
    """Folders separated by colons."""
    folders = tuple(part for part in text.split(os.pathsep) if part)
    for folder in folders:
        if not os.path.isabs(folder):
            raise ValueError(f"holds {folder!r}: give absolute folders, separated by {os.pathsep!r}")
    return tuple(os.path.normpath(folder) for folder in folders)


def _file(text: str) -> Path:
    return Path(text).expanduser().resolve()


# What sets which field of `Settings`, and how its text is read. BCD_HOME and FILES are read besides.
VARIABLES: dict[str, tuple[str, Callable[[str], object]]] = {
    "BCD_DATABASE_URL": ("database_url", str),
    "BCD_STORAGE": ("storage_uri", str),
    "BCD_API_HOST": ("api_host", str),
    "BCD_API_PORT": ("api_port", _port),
    "BCD_API_URL": ("public_api_url", _http_address),
    "BCD_ALLOWED_HOSTS": ("other_hosts", _host_names),
    "BCD_TRUSTED_PROXIES": ("trusted_proxies", _names),
    "BCD_MLFLOW_PORT": ("mlflow_port", _port),
    "BCD_MLFLOW_URL": ("mlflow_address", _http_address),
    "BCD_RAY_PORT": ("ray_port", _port),
    "BCD_RAY_ADDRESS": ("ray_address", _host_and_port),
    "BCD_ADMIN_TOKEN_FILE": ("token_file", _file),
    "BCD_ATTEMPT_KEY_FILE": ("secret_file", _file),
    "BCD_RAY_TOKEN_FILE": ("ray_token_file", _file),
    "BCD_DATA_ROOTS": ("data_roots", _folders),
    "BCD_PUBLIC_URL": ("public_url", _link),
    "BCD_MLFLOW_PUBLIC_URL": ("mlflow_public_url", _link),
    "BCD_WEBHOOK_ALLOW": ("webhook_allow", _names),
    "BCD_RATE_LIMIT": ("rate_limit", _rate),
    "BCD_RATE_LIMIT_ANONYMOUS": ("rate_limit_anonymous", _rate),
    "BCD_RATE_LIMIT_FAILURES": ("rate_limit_failures", _rate),
    "BCD_SESSION_SECONDS": ("session_seconds", _seconds),
    "BCD_LEASE_SECONDS": ("lease_seconds", _seconds),
    "BCD_POLL_SECONDS": ("poll_seconds", _seconds),
    "BCD_LEADER_SECONDS": ("leader_seconds", _seconds),
    "BCD_START_SECONDS": ("start_seconds", _seconds),
    "BCD_STOP_SECONDS": ("stop_seconds", _seconds),
    "BCD_RETRY_SECONDS": ("retry_seconds", _seconds),
    "BCD_UNPLACEABLE_SECONDS": ("unplaceable_seconds", _seconds),
    "BCD_MAX_ATTEMPTS": ("max_attempts", _count),
    "BCD_KEEP_BEST": ("keep_best", _count_or_none),
    "BCD_SPARES": ("spares", _count_or_none),
}
FILES = ("BCD_DATABASE_URL_FILE", "BCD_DATABASE_PASSWORD_FILE")
