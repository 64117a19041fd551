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
from pathlib import Path

import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

import service.access.endpoints
import service.access.session_endpoints
import service.artifacts.endpoints
import service.attempts.endpoints
import service.catalog.endpoints
import service.cluster.endpoints
import service.compare.endpoints
import service.events.endpoints
import service.health.endpoints
import service.images.endpoints
import service.jobs.endpoints
import service.lists.endpoints
import service.logs.endpoints
import service.mirror.endpoints
import service.results.endpoints
import service.sweeps.driver_endpoints
import service.sweeps.endpoints
import service.tables.endpoints
import service.views.endpoints
import service.webhooks.endpoints
from service import conditional, errors, frontend, migrations, openapi, pages, process_log, telemetry
from service.access.first import ensure_first
from service.access.gate import Calls, Gate, SecurityHeaders
from service.access.limits import RateLimits
from service.access.principal import principal
from service.auth import ensure_secrets, require_attempt
from service.db import Database
from service.events.tip import Tip
from service.health.prometheus import Installation, Requests
from service.settings import Settings

log = logging.getLogger("bcd.api")

# Routes that need no large bodies, above all the one that takes them from anybody.
SMALL_BODY = 16_384
SMALL_BODIES = tuple(f"/api/v1/{room}" for room in ("session", "tokens", "users", "projects"))
STORAGE_THREADS = 16  # downloads that may wait for storage at the same time; more of them queue
# Longer than clients and proxies keep an idle connection (5 to 60 s): the other way round, a request now and then meets
# a connection that is just being closed, and is lost without an answer.
KEEP_ALIVE_SECONDS = 75
STATEMENT_SECONDS = 30.0  # a single question must not hold the database up for everybody
GRACE_SECONDS = 2  # what open requests get at shutdown; event streams end by themselves before that


def create_app(settings: Settings, *, web: Path | None = frontend.FOLDER) -> FastAPI:
    """The application on an existing installation: call `prepare(settings)` first.

    `web`: where the built web UI is; None, or a folder without it: the API alone.
    """
    db = Database(settings.database_url, statement_seconds=STATEMENT_SECONDS)

    traces = telemetry.provider("api")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if traces is not None:
            await to_thread.run_sync(traces.shutdown)
        db.close()

    app = FastAPI(
        title="bcd",
        version="1",
        summary="Distil dense object detectors and prove the gain.",
        lifespan=lifespan,
        openapi_url=None,  # `pages` serves the document, and a reference that loads nothing from elsewhere
    )
    limits = RateLimits(settings)
    app.state.settings, app.state.db, app.state.limits = settings, db, limits
    app.state.storage_threads = CapacityLimiter(STORAGE_THREADS)
    app.state.tip = Tip(db, settings.poll_seconds)
    app.state.closing = lambda: False  # event streams ask this; `main` connects it to the server
    errors.install(app)
    conditional.install(app)

    user, attempt = [Depends(principal)], [Depends(require_attempt)]
    for router in (
        service.access.endpoints.router,
        service.jobs.endpoints.router,
        service.lists.endpoints.router,
        service.results.endpoints.router,
        service.logs.endpoints.router,
        service.artifacts.endpoints.router,
        service.events.endpoints.router,
        service.compare.endpoints.router,
        service.images.endpoints.router,
        service.catalog.endpoints.router,
        service.tables.endpoints.router,
        service.views.endpoints.router,
        service.sweeps.endpoints.router,
        service.mirror.endpoints.router,
        service.webhooks.endpoints.router,
        service.cluster.endpoints.router,
    ):
        app.include_router(router, prefix="/api/v1", dependencies=user)
    app.include_router(service.access.session_endpoints.router, prefix="/api/v1")
    app.include_router(service.attempts.endpoints.router, prefix="/api/v1", dependencies=attempt)
    app.include_router(service.sweeps.driver_endpoints.router, prefix="/api/v1")  # each route asks for its token
    app.include_router(pages.router)
    app.include_router(service.health.endpoints.router)
    if web is not None and frontend.is_built(web):
        app.mount("/", frontend.frontend(web))  # whatever is nothing else
    else:
        app.include_router(pages.without_web)
    app.state.registry = CollectorRegistry()
    app.state.registry.register(Installation(db))

    openapi.publish(app)
    # the last one added is the outermost
    app.add_middleware(Requests, registry=app.state.registry)
    app.add_middleware(Calls, db=db, limits=limits)
    app.add_middleware(errors.BodyLimit, limit=settings.max_body_bytes, small=SMALL_BODY, small_paths=SMALL_BODIES)
    app.add_middleware(Gate, allowed=settings.allowed_hosts)
    if traces is not None:
        app.add_middleware(telemetry.Traces, provider=traces)
    app.add_middleware(errors.RequestIds)
    app.add_middleware(SecurityHeaders)
    return app


def prepare(settings: Settings) -> None:
    """Make what the application needs: folders, secrets, the database at the newest revision. Idempotent."""
    ensure_secrets(settings)
    settings.logs.mkdir(parents=True, exist_ok=True)
    if settings.storage is not None:
        settings.storage.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(settings.database_url)
    db = Database(settings.database_url)
    try:
        ensure_first(db, settings)
    finally:
        db.close()


def warn_if_open(settings: Settings) -> None:
    """Say what it means to listen on more than loopback; nobody does without having set BCD_API_HOST."""
    if settings.api_host not in ("127.0.0.1", "::1", "localhost"):
        log.warning(
            "listening on %s: whoever reaches port %d may try to get in, and tokens travel in the clear unless a proxy "
            "in front of it ends TLS",
            settings.api_host,
            settings.api_port,
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.app", description="Serve the bcd API.")
    parser.add_argument("--home", help="folder of the installation (default: BCD_HOME, else .bcd)")
    args = parser.parse_args(argv)
    process_log.configure("api")
    settings = Settings.load(args.home)
    warn_if_open(settings)
    prepare(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
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
