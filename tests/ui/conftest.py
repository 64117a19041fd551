"""The real api process with a database that tells a story, and pages of the system's Chromium that are signed in.

Rows are made by a worker's voice through the real routes (`tests/helpers/api.py`), so pages show what they would show
of true runs. A page that writes an error to the console, or is refused something by its own policy, fails its test.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from starlette.testclient import TestClient

from service import frontend, processes
from service.auth import owner_token
from service.settings import Settings
from tests.helpers.api import distilled_spec, make_client, make_settings, start, submit, tiny_spec
from tests.helpers.installation import free_ports

expect.set_options(timeout=15_000)  # these machines may be busy

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BIG = {"backbone": "tiny", "width": 8, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]}
MANY = 230  # more than one page of the list


def _browser() -> str | None:
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = []
    if _browser() is None:
        missing.append("no Chromium: install it, on Debian by `apt-get install chromium`")
    if not frontend.is_built():
        missing.append("the web UI is not built: `make web`")
    if not missing:
        return
    why = f"THE WEB UI IS NOT TESTED: {'; '.join(missing)}"
    if os.environ.get("BCD_NEED_BROWSER") == "1":
        raise pytest.UsageError(why)
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=why))


@dataclass
class Server:
    """The api as its own process on a home, and a client in this process that speaks for workers on the same home."""

    settings: Settings
    voice: TestClient
    story: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.settings.api_url

    @property
    def token(self) -> str:
        return owner_token(self.settings)

    def begin(self) -> None:
        wanted = processes.api(self.settings)
        self.process = subprocess.Popen(
            wanted.command, env=wanted.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=2, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                assert time.monotonic() < until, "the api does not come up"
            time.sleep(0.1)

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            self.process = None


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    (port,) = free_ports(1)
    settings = make_settings(
        tmp_path_factory.mktemp("web"), api_port=port, rate_limit="off", rate_limit_anonymous="off",
        rate_limit_failures="off",
    )  # fmt: skip
    with make_client(settings) as voice:
        server = Server(settings, voice)
        _tell(server)
        server.begin()
        try:
            yield server
        finally:
            server.end()


def _tell(server: Server) -> None:
    """A teacher, three seeds with and without distillation, a failure, a run that goes on, and many that wait."""
    client = server.voice
    teacher = finish(client, tiny_spec(name="teacher", student=BIG), 50.0)
    baseline = [finish(client, tiny_spec(name=f"base-{i}", seed=i), ap) for i, ap in enumerate((30.0, 31.0, 31.0))]
    bckd = [
        finish(client, distilled_spec(teacher, name=f"bckd-{i}", seed=i), ap) for i, ap in enumerate((35.0, 36.1, 35.9))
    ]
    failed, worker = start(client, tiny_spec(name="broken run", seed=9))
    worker.send(
        worker.record("log", level="error", text="the loss is not finite"),
        worker.ended("failed", cause="the loss is not finite at step 3", traceback="Traceback: NaN"),
    )
    many = [submit(client, tiny_spec(name=f"waiting {i:03}", seed=i))["id"] for i in range(MANY)]
    server.story = {"teacher": teacher, "baseline": baseline, "bckd": bckd, "failed": failed["id"], "many": many}


def finish(client: TestClient, spec: dict[str, Any], ap: float) -> str:
    """A job that has reported this AP and ended well; its id."""
    job, worker = start(client, spec)
    worker.send(
        *(worker.metric(step, loss=4.0 / step) for step in range(1, 5)),
        worker.metric(4, AP=ap),
        worker.artifact("result", "student", 4, job["id"].encode()),
        worker.evaluation(ap),
        worker.ended("succeeded"),
    )
    return str(job["id"])


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    # Without its sandbox, which root and containers do not have: it only ever opens our own pages.
    return {**browser_type_launch_args, "executable_path": _browser(), "args": ["--no-sandbox"]}


@pytest.fixture(scope="session")
def base_url(server: Server) -> str:
    return server.url


Expect = Callable[[str], None]


@pytest.fixture
def faults() -> list[str]:
    """Patterns of console messages that a test brings about on purpose."""
    return []


@pytest.fixture
def visitor(context: BrowserContext, faults: list[str]) -> Iterator[Page]:
    """A page that is not signed in."""
    page = context.new_page()
    page.set_default_timeout(20_000)
    seen: list[str] = []
    page.on("console", lambda message: seen.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.append(f"uncaught: {error}"))
    yield page
    # a visitor's first question is who they are: 401 is the answer
    expected = [r"status of 401", *faults]
    assert [text for text in seen if not any(re.search(pattern, text) for pattern in expected)] == []


@pytest.fixture
def page(visitor: Page, server: Server) -> Page:
    """A page that its link has signed in."""
    visitor.goto(f"/#token={server.token}")
    visitor.get_by_role("heading", name="Overview").wait_for()
    return visitor


@pytest.fixture(scope="session")
def axe() -> str:
    path = Path(__file__).parents[2] / "service" / "web" / "node_modules" / "axe-core" / "axe.min.js"
    return path.read_text(encoding="utf-8")


@pytest.fixture
def unguarded(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    """A context in which axe can be put into pages that allow no foreign script."""
    context = browser.new_context(base_url=server.url, bypass_csp=True)
    yield context
    context.close()
