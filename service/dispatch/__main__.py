"""The dispatcher process: `python -m service.dispatch --home HOME`.

It may be killed at any moment and started again: everything it knows is in the database. It ends by itself (status
75, to be started again) when Ray goes away, because a Ray driver cannot outlive its cluster.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from service import migrations
from service.auth import ensure_secrets
from service.db import Database
from service.dispatch.backend import BackendAway
from service.dispatch.mirror import Mirror
from service.dispatch.ray_backend import RayBackend, require_token
from service.dispatch.reconciler import Reconciler
from service.settings import Settings

log = logging.getLogger("bcd.dispatch")

TRY_AGAIN = 75  # exit status: nothing is wrong with us, start us again
RAY_PATIENCE = 5.0  # seconds without Ray after which the connection is given up
HUNG_AFTER = 60.0  # seconds in one tick; Ray's calls hang when its head stops answering


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.dispatch", description="Run the bcd dispatcher.")
    parser.add_argument("--home", help="folder of the installation (default: BCD_HOME, else .bcd)")
    settings = Settings.load(parser.parse_args(argv).home)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    require_token()
    ensure_secrets(settings)
    migrations.upgrade(settings.database_url)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    db = Database(settings.database_url)
    mirror = Mirror(settings, db)
    mirror.start()
    status = _run(settings, db, stop)
    mirror.stop(timeout=2.0)
    logging.shutdown()
    # Not ray.shutdown(): it waits for the cluster, which may be gone. The workers are detached and go on.
    os._exit(status)


def _run(settings: Settings, db: Database, stop: threading.Event) -> int:
    backend = RayBackend(settings)
    ready = settings.run / "dispatcher.json"
    ready.unlink(missing_ok=True)
    while not backend.listening():
        if stop.wait(0.2):
            return 0
    backend.connect()
    for number in (signal.SIGTERM, signal.SIGINT):  # Ray has put its own in their place
        signal.signal(number, lambda *_: stop.set())
    log.info("connected to Ray, %s", backend.capacity())
    reconciler = Reconciler(settings, db, backend, spares=_spares(backend.capacity().cpus))
    pulse = _Pulse()
    answered, warm = time.monotonic(), -1
    while not stop.is_set():
        try:
            pulse.beat()
            reconciler.tick()
            answered = time.monotonic()
        except BackendAway as error:
            log.warning("%s", error)
        except Exception:
            log.exception("a round failed; the next one follows")
            stop.wait(1.0)
        if backend.listening():
            answered = time.monotonic()
        elif time.monotonic() - answered > RAY_PATIENCE:
            log.warning("Ray is gone; ending, to be started again")
            return TRY_AGAIN
        if warm != backend.warm_spares():
            warm = backend.warm_spares()
            _write_json(ready, {"pid": os.getpid(), "warm_workers": warm})
        stop.wait(settings.poll_seconds)
    return 0


class _Pulse:
    """Ends the process when a round hangs: a fresh one reconciles from the database."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        threading.Thread(target=self._watch, name="pulse", daemon=True).start()

    def beat(self) -> None:
        self._last = time.monotonic()

    def _watch(self) -> None:
        while time.monotonic() - self._last < HUNG_AFTER:
            time.sleep(1.0)
        log.error("a round hangs for %d s; ending, to be started again", HUNG_AFTER)
        os._exit(TRY_AGAIN)


def _spares(cpus: int) -> int:
    """How many workers to keep warm. Each takes about 400 MB; BCD_SPARES sets another number."""
    text = os.environ.get("BCD_SPARES", "")
    return max(0, int(text)) if text.isdigit() else min(2, cpus)


def _write_json(path: os.PathLike[str], value: dict[str, object]) -> None:
    aside = f"{os.fspath(path)}.new"
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(aside, path)


if __name__ == "__main__":
    sys.exit(main())
