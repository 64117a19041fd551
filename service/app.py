"""The API process: REST and SSE on the database. It never imports ray, torch or mlflow.

`python -m service.app --home HOME` serves on loopback until SIGTERM or SIGINT, also while event streams are open.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse

import service.artifacts.endpoints
import service.attempts.endpoints
import service.compare.endpoints
import service.events.endpoints
import service.jobs.endpoints
import service.logs.endpoints
from service import errors, migrations, openapi
from service.access.first import ensure_first
from service.access.principal import principal
from service.auth import HostAllowList, ensure_secrets, require_attempt
from service.db import Database
from service.settings import Settings

GRACE_SECONDS = 2  # what open requests get at shutdown; event streams end by themselves before that


def create_app(settings: Settings) -> FastAPI:
    """The application on an existing installation: call `prepare(settings)` first."""
    db = Database(settings.database_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        db.close()

    app = FastAPI(
        title="bcd", version="1", summary="Distil dense object detectors and prove the gain.", lifespan=lifespan
    )
    app.state.settings, app.state.db = settings, db
    app.state.closing = lambda: False  # event streams ask this; `main` connects it to the server
    errors.install(app)

    user, attempt = [Depends(principal)], [Depends(require_attempt)]
    for router in (
        service.jobs.endpoints.router,
        service.logs.endpoints.router,
        service.artifacts.endpoints.router,
        service.events.endpoints.router,
        service.compare.endpoints.router,
    ):
        app.include_router(router, prefix="/api/v1", dependencies=user)
    app.include_router(service.attempts.endpoints.router, prefix="/api/v1", dependencies=attempt)

    @app.get("/healthz", tags=["service"], summary="Is the process up?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/", include_in_schema=False)
    async def home() -> RedirectResponse:
        return RedirectResponse("/docs")

    openapi.publish(app)
    # the last one added is the outermost
    app.add_middleware(errors.BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(HostAllowList, allowed=settings.allowed_hosts)
    app.add_middleware(errors.RequestIds)
    return app


def prepare(settings: Settings) -> None:
    """Make what the application needs: folders, secrets, the database at the newest revision. Idempotent."""
    ensure_secrets(settings)
    for folder in (settings.storage, settings.logs):
        folder.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(settings.database_url)
    db = Database(settings.database_url)
    try:
        ensure_first(db, settings)
    finally:
        db.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.app", description="Serve the bcd API.")
    parser.add_argument("--home", help="folder of the installation (default: BCD_HOME, else .bcd)")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    settings = Settings.load(args.home)
    prepare(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    app.state.closing = lambda: server.should_exit
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _leave)  # uvicorn passes the signal on to us once it has stopped
    server.run()
    return 0 if server.started else 1


def _leave(*_: object) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
