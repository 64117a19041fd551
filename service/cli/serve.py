"""`bcd up`: start everything on this machine and stop it again; and the same around a block of code (`bcd demo`)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import Fault, say
from service.cli.jobs import Home
from service.cli.place import settings_of, settings_to_start, write_ports
from service.frontend import is_built

if TYPE_CHECKING:
    from service.client import Client
    from service.settings import Settings

Phase = Callable[[str], AbstractContextManager[None]]


def up(
    home: Home = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1024, max=65533, help="Port of the API; the next two are for MLflow and Ray."),
    ] = None,
) -> None:
    """Start the service on this machine and keep it running until Ctrl-C.

    API, dispatcher, Ray and MLflow listen on this machine only and keep everything in the home folder.
    """
    settings = settings_of(home)
    running = client_if_running(settings)
    if running is not None:
        running.close()
        raise Fault(f"bcd is already running in {settings.home}: {settings.api_url}")
    settings = settings_to_start(home, port)
    with interruptible():
        try:
            with tree(settings, say):
                for line in addresses(settings):
                    say(line)
                say("Ctrl-C stops it; unfinished jobs go on at the next start")
                threading.Event().wait()
        except KeyboardInterrupt:
            say("stopped")


@contextmanager
def using_service(
    home: Path | None, phase: Phase, tell: Callable[[str], None]
) -> Iterator[tuple[Settings, Client, bool]]:
    """The service of `home` around a block: the one that runs there, or one that is started and stopped again.

    Gives settings, client and whether it was started here; `phase` measures `start-up` and `stop`.
    """
    from service.client import Client

    settings = settings_of(home)
    client = client_if_running(settings)
    if client is not None:
        tell(f"using the service that runs in {settings.home}")
        with client:
            yield settings, client, False
        return
    settings = settings_to_start(home, None, any_port=True)
    tell(f"starting the service in {settings.home} (about 10 s)")
    with tree(settings, lambda text: None, phase), Client.from_settings(settings) as client:
        yield settings, client, True


@contextmanager
def tree(
    settings: Settings, status: Callable[[str], None], phase: Phase = lambda name: nullcontext()
) -> Iterator[None]:
    """All processes of the service around a block: ready on entry, gone on exit however the block ends."""
    from service.up import Tree, UpError

    whole = Tree(settings, status=status)
    try:
        with phase("start-up"):
            whole.start()
            write_ports(settings)
            whole.wait_ready()
        yield
    except UpError as error:
        raise Fault(str(error)) from None
    finally:
        # a second Ctrl-C must not leave processes behind
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with phase("stop"):
                whole.stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def client_if_running(settings: Settings) -> Client | None:
    """A client of the service that runs in this home; None when none does."""
    from service.client import ApiError, Client, ServiceUnavailable

    try:
        client = Client.from_settings(settings)
    except ServiceUnavailable:
        return None
    try:
        client.jobs(limit=1)
    except (ServiceUnavailable, ApiError):  # nobody, or the service of another home on the same port
        client.close()
        return None
    return client


def addresses(settings: Settings) -> list[str]:
    """Where a person finds what."""
    usual = settings.home == type(settings).load(None).home
    return [
        f"Web UI     {sign_in_link(settings)}" if is_built() else "Web UI     not built: `make web` does that",
        f"API docs   {settings.api_url}/docs",
        f"MLflow     {settings.mlflow_url} (some seconds after the rest)",
        f"API token  {settings.token_file}",
        *([] if usual else [f"Commands   find it with --home {settings.home}, or with BCD_HOME set to that"]),
    ]


def sign_in_link(settings: Settings) -> str:
    """The address of the web UI that signs its reader in. What is behind # stays in the browser: no server sees it."""
    try:
        token = settings.token_file.read_text(encoding="utf-8").strip()
    except OSError:
        return f"{settings.api_url}/"
    return f"{settings.api_url}/#token={token}"


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block SIGTERM and SIGINT raise KeyboardInterrupt, so that everything is stopped in both cases.

    SIGINT too: a program that a script starts in the background inherits that it is ignored.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
