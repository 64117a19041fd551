"""The real api process with a database that tells a story, and pages of the system's Chromium that are signed in.

Rows are made by a worker's voice through the real routes (`tests/helpers/api.py`), so pages show what they would show
of true runs. A page that writes an error to the console, or is refused something by its own policy, fails its test.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from service import frontend
from tests.ui.story import Server, find_browser, told

expect.set_options(timeout=15_000)  # these machines may be busy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = []
    if find_browser() is None:
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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with told(tmp_path_factory.mktemp("web")) as server:
        yield server


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    # Without its sandbox, which root and containers do not have: it only ever opens our own pages.
    return {**browser_type_launch_args, "executable_path": find_browser(), "args": ["--no-sandbox"]}


@pytest.fixture(scope="session")
def base_url(server: Server) -> str:
    return server.url


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
