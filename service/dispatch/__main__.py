"""The dispatcher process: `python -m service.dispatch --home HOME`.

It may be killed at any moment and started again: everything it knows is in the database. Of several one leads and the
others stand by. It ends by itself (status 75, to be started again) when Ray goes away, because a Ray driver cannot
outlive its cluster; a database that is away it outlives.
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
from collections.abc import Mapping, Sequence

import httpx
from sqlalchemy.exc import OperationalError

from service import migrations, process_log
from service.auth import ensure_key
from service.db import Database
from service.dispatch import own_node
from service.dispatch.leadership import DISPATCH, Leadership
from service.dispatch.loop import Background, Dispatcher
from service.dispatch.ray_backend import RayBackend, require_token
from service.dispatch.ray_door import refuse_open_door
from service.dispatch.reconciler import Reconciler
from service.mirror.loop import Mirror
from service.settings import Settings
from service.webhooks.deliver import Deliveries

log = logging.getLogger("bcd.dispatch")

TRY_AGAIN = 75  # exit status: nothing is wrong with us, start us again
RAY_PATIENCE = 5.0  # seconds without Ray after which the connection is given up
HUNG_AFTER = 60.0  # seconds in one tick; Ray's calls hang when its head stops answering


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.dispatch", description="Run the bcd dispatcher.")
    parser.add_argument("--home", help="folder of the installation (default: BCD_HOME, else .bcd)")
    settings = Settings.load(parser.parse_args(argv).home)
    process_log.configure("dispatcher")
    require_token()
    ensure_key(settings)
    stop = threading.Event()
    _stop_on_signals(stop)
    _wait_for_database(settings, stop)
    status = _run(settings, Database(settings.database_url), stop)
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
    refuse_open_door(*settings.ray_head)
    own_node.join(settings)
    backend.connect()
    _stop_on_signals(stop)  # Ray has put its own in their place
    log.info("connected to Ray")

    def term() -> tuple[Reconciler, Sequence[Background]]:
        nonlocal backend
        backend = RayBackend(settings)
        cpus = sum(node.cpus for node in backend.nodes() if node.alive)
        reconciler = Reconciler(
            settings,
            db,
            backend,
            lead,
            spares=_spares(settings, cpus),
            service_up=lambda: _answers(settings.worker_api_url),
        )
        return reconciler, [
            Mirror(settings, db, leading=lead.is_leader),
            Deliveries(settings, db, leading=lead.is_leader),
        ]

    lead = Leadership(db, DISPATCH, seconds=settings.leader_seconds)
    dispatcher = Dispatcher(lead, term)
    pulse = _Pulse()
    answered, told = time.monotonic(), None
    while not stop.is_set():
        pulse.beat()
        if not dispatcher.round():
            stop.wait(1.0)
        elif dispatcher.leads:  # who stands by has not asked Ray
            answered = time.monotonic()
        if backend.listening():
            answered = time.monotonic()
        elif time.monotonic() - answered > RAY_PATIENCE:
            log.warning("Ray is gone; ending, to be started again")
            dispatcher.close()
            return TRY_AGAIN
        state = {"pid": os.getpid(), "leads": dispatcher.leads, "warm_workers": backend.warm_spares()}
        if state != told:
            _write_json(ready, state)
            told = state
        stop.wait(settings.poll_seconds)
    dispatcher.close()
    return 0


def _stop_on_signals(stop: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())


def _wait_for_database(settings: Settings, stop: threading.Event) -> None:
    """Bring the database to the newest revision, as soon as it answers."""
    told = False
    while not stop.is_set():
        try:
            migrations.upgrade(settings.database_url)
            return
        except OperationalError as error:
            if not told:
                log.warning("the database does not answer yet: %s", str(error).splitlines()[0])
                told = True
            stop.wait(1.0)


def _answers(api_url: str) -> bool:
    try:
        return httpx.get(f"{api_url}/healthz", timeout=2.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


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


def _spares(settings: Settings, cpus: int) -> int:
    """How many workers to keep warm. Each takes about 400 MB."""
    return min(2, cpus) if settings.spares is None else settings.spares


def _write_json(path: os.PathLike[str], value: Mapping[str, object]) -> None:
    aside = f"{os.fspath(path)}.new"
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(aside, path)


if __name__ == "__main__":
    sys.exit(main())
