"""Secrets of the installation and the tokens of running attempts; users' tokens are in `service.access`.

Attempt tokens are derived (HMAC) from a key file, so the database holds no secret and a
repeated launch passes the same token.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select

from service.errors import Problem
from service.models import Attempt
from service.settings import Settings
from service.variables import read_secret

_bearer = HTTPBearer(auto_error=False, description="An attempt's own token.")
_Given = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


_FEWEST_CHARACTERS = 32  # of a secret that somebody else made


def ensure_secrets(settings: Settings) -> None:
    """Make `HOME/run` (0700), the first API token and the key of attempt tokens (0600) where they are missing.

    Safe when several processes do it at once: the first file wins and is never replaced. Files elsewhere (secrets of a
    deployment, mounted read-only) are only looked at. Raises SystemExit where such a file cannot be used.
    """
    ensure_key(settings)
    ensure_file(settings, "BCD_ADMIN_TOKEN_FILE", settings.token_file, new_secret())


def ensure_key(settings: Settings) -> None:
    """The part of `ensure_secrets` that who launches attempts needs: `HOME/run` and the key of attempt tokens."""
    settings.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.run.chmod(0o700)
    ensure_file(settings, "BCD_ATTEMPT_KEY_FILE", settings.secret_file, secrets.token_hex(32))


def ensure_file(settings: Settings, variable: str, path: Path, secret: str) -> None:
    """A file in `HOME/run` is made where it is missing; one elsewhere, which `variable` names, must be there."""
    if path.parent != settings.run:
        if len(read_secret(variable, path)) < _FEWEST_CHARACTERS:
            raise SystemExit(f"{variable}: the secret in {path} is too short; make one with `openssl rand -hex 32`")
        return
    if not path.exists():
        create_once(path, secret + "\n")
    path.chmod(0o600)


def new_secret(prefix: str = "bcd") -> str:
    """A secret of 32 random bytes. The prefix lets people and scanners see what leaked: `bcd_` a token, `bcs_` the
    session of a browser.
    """
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def owner_token(settings: Settings) -> str:
    """The first API token, of the user `admin`. Raises FileNotFoundError before `ensure_secrets`."""
    return settings.token_file.read_text(encoding="ascii").strip()


def attempt_token(settings: Settings, attempt_id: str, epoch: int) -> str:
    """The token with which one attempt calls its two routes (hex)."""
    key = settings.secret_file.read_text(encoding="ascii").strip().encode()
    return hmac.new(key, f"{attempt_id}:{epoch}".encode(), hashlib.sha256).hexdigest()


def require_attempt(request: Request, attempt_id: str, given: _Given) -> None:
    """Dependency of routes with `attempt_id`: the caller holds this attempt's token, else 401.

    Whether the attempt is still the current one is for the service to say (409), not for this check.
    """
    with request.app.state.db.read() as session:
        epoch = session.scalar(select(Attempt.epoch).where(Attempt.id == attempt_id))
    known = -1 if epoch is None else epoch
    right = _equal(given, attempt_token(request.app.state.settings, attempt_id, known))
    if epoch is None or not right:
        raise _unauthorized("the token is not that of this attempt")


def sweep_token(settings: Settings, sweep_id: str, epoch: int) -> str:
    """The token with which one driver of a sweep calls its routes (hex)."""
    return attempt_token(settings, sweep_id, epoch)  # ids of sweeps and attempts differ in their first letters


def require_driver(
    request: Request,
    sweep_id: str,
    given: _Given,
    epoch: Annotated[int, Header(alias="X-Epoch", ge=0, le=2**31 - 1)] = 0,
) -> int:
    """Dependency of a driver's routes: its epoch, of which the caller holds the token, else 401.

    Whether a newer driver is there is for the service to say (409), not for this check.
    """
    if not _equal(given, sweep_token(request.app.state.settings, sweep_id, epoch)):
        raise _unauthorized("the token is not that of this sweep's driver")
    return epoch


def _equal(given: HTTPAuthorizationCredentials | None, token: str) -> bool:
    if given is None or not token:  # an empty token file must not open the door to a caller without one
        return False
    return hmac.compare_digest(given.credentials.encode("utf-8", "surrogateescape"), token.encode())


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


def create_once(path: Path, text: str) -> None:
    """Write a file that only its owner may read: completely or not at all, and never over an existing one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first; its secret is the one
            os.link(aside, path)
    finally:
        aside.unlink()
