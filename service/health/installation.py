"""Is this installation sound and closed to strangers? What `bcd doctor` looks at when it is given no spec.

Reads and asks only; nothing is changed. Findings are told like those of a spec's doctor: ok, info, warn, fail.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import psutil

from bcd.storage import BadAddress, StorageUnavailable, open_store
from service.db import Database
from service.health import readiness
from service.settings import Settings

Verdict = Literal["ok", "info", "warn", "fail"]
LITTLE_SPACE = 5e9  # bytes; a few checkpoints of a large detector
PATIENCE = 3.0  # seconds for each question


@dataclass(frozen=True)
class Finding:
    """One look: what was found, and what to do about it."""

    verdict: Verdict
    check: str
    found: str
    advice: str = ""


def look(settings: Settings) -> Iterator[Finding]:
    """All findings, in the order of what rests on what."""
    yield from _home(settings)
    yield from _secrets(settings)
    yield from _storage(settings)
    yield from _database(settings)
    yield from _api(settings)
    yield from _mlflow(settings)
    yield from _ports(settings)


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.is_dir():
        yield Finding("fail", "home", f"{home} does not exist", "start it once with `bcd up`, or name it with --home")
        return
    free = shutil.disk_usage(home).free
    verdict: Verdict = "ok" if free > LITTLE_SPACE else "warn"
    advice = "" if verdict == "ok" else "make room: checkpoints and the database need it"
    yield Finding(verdict, "home", f"{home}, {free / 1e9:.0f} GB free", advice)


def _secrets(settings: Settings) -> Iterator[Finding]:
    for file in (settings.token_file, settings.secret_file):
        if file.parent != settings.run:
            if os.access(file, os.R_OK):
                yield Finding("ok", "secrets", f"{file} is given from outside")
            else:
                yield Finding("fail", "secrets", f"cannot read {file}", "see that it is mounted")
            continue
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
        except OSError:
            yield Finding("warn", "secrets", f"{file.name} is not there yet", "it is made at the first start")
            continue
        if mode & 0o077:
            yield Finding("fail", "secrets", f"others may read {file} ({mode:o})", f"chmod 600 {file}")
        else:
            yield Finding("ok", "secrets", f"{file.name} is readable by its owner only")


def _storage(settings: Settings) -> Iterator[Finding]:
    try:
        open_store(settings.storage_uri).check()
    except (BadAddress, StorageUnavailable, OSError) as error:
        yield Finding("fail", "storage", str(error), "see BCD_STORAGE in docs/storage.md")
    else:
        yield Finding("ok", "storage", f"{settings.storage_uri} takes files and gives them back")


def _database(settings: Settings) -> Iterator[Finding]:
    db = Database(settings.database_url)
    try:
        for check in readiness.checks(settings, db):
            verdict: Verdict = "ok" if check.ok else ("fail" if check.required else "warn")
            advice = {
                "database": "see that it runs and that BCD_DATABASE_URL names it",
                "schema": "start the api once: it brings the schema to its revision",
                "dispatcher": "start it with `bcd up` or `python -m service.dispatch`",
            }[check.name]
            yield Finding(verdict, check.name, check.detail, "" if check.ok else advice)
    finally:
        db.close()


def _api(settings: Settings) -> Iterator[Finding]:
    try:
        answer = httpx.get(f"{settings.api_url}/api/v1/jobs", timeout=PATIENCE, trust_env=False)
    except httpx.HTTPError:
        yield Finding("warn", "api", f"nobody answers at {settings.api_url}", "start it with `bcd up`")
        return
    if answer.status_code == 401:
        yield Finding("ok", "api", f"{settings.api_url} answers, and to nobody without a token")
    else:
        yield Finding(
            "fail", "api", f"{settings.api_url} answers {answer.status_code} to a caller without a token",
            "something else listens there, or a proxy in front adds a token: look at it",
        )  # fmt: skip
    rebound = httpx.get(
        f"{settings.api_url}/healthz", headers={"Host": "evil.example"}, timeout=PATIENCE, trust_env=False
    )
    if rebound.status_code == 400:
        yield Finding("ok", "api.hosts", "other host names are refused")
    else:
        yield Finding("fail", "api.hosts", "other host names are answered", "set BCD_ALLOWED_HOSTS to your own names")


def _mlflow(settings: Settings) -> Iterator[Finding]:
    try:
        version = httpx.get(f"{settings.mlflow_url}/version", timeout=PATIENCE, trust_env=False).text.strip()
    except httpx.HTTPError:
        yield Finding("info", "mlflow", f"does not answer at {settings.mlflow_url}", "the mirror catches up later")
        return
    parts = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if parts and parts < [3, 17]:
        yield Finding("fail", "mlflow", f"version {version} has known holes", "use 3.17.2 or newer")
    else:
        yield Finding("ok", "mlflow", f"version {version} at {settings.mlflow_url}")


def _ports(settings: Settings) -> Iterator[Finding]:
    """Processes of this home that listen beyond loopback on this machine."""
    open_ones = []
    for process in _own_processes(settings.home):
        with suppress(psutil.Error):
            for one in process.net_connections(kind="inet"):
                if one.status == psutil.CONN_LISTEN and not _loopback(one.laddr.ip):
                    open_ones.append(f"{process.name()} on {one.laddr.ip}:{one.laddr.port}")
    if not open_ones:
        yield Finding("ok", "ports", "no process of this home listens beyond this machine")
    else:
        yield Finding(
            "warn", "ports", f"open to other machines: {', '.join(sorted(set(open_ones))[:5])}",
            "only the api should be, behind TLS; Ray and MLflow never",
        )  # fmt: skip


def _own_processes(home: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real == os.getuid() and process.environ().get("BCD_HOME") == str(home):
                yield process


def _loopback(address: str) -> bool:
    with suppress(ValueError):
        ip = ipaddress.ip_address(address.removeprefix("::ffff:"))
        return ip.is_loopback
    with suppress(OSError):
        return ipaddress.ip_address(socket.gethostbyname(address)).is_loopback
    return False
