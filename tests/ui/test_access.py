"""Nobody is kept out by the page: axe finds nothing on any page, in either theme, loaded, empty or failed."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.ui.story import Server

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PAGES = {
    "overview": "/",
    "jobs": "/jobs",
    "jobs, none": "/jobs?q=nothingiscalledthis",
    "jobs, refused": "/jobs?q=colour:red",
    "job": "/jobs/{done}",
    "job, live": "/jobs/{done}?tab=live",
    "job, log": "/jobs/{failed}?tab=log",
    "job, spec": "/jobs/{done}?tab=spec",
    "job, files": "/jobs/{done}?tab=artifacts",
    "job, lineage": "/jobs/{failed}?tab=lineage",
    "job, images": "/jobs/{done}?tab=images",
    "job, images, none": "/jobs/{failed}?tab=images",
    "job, gone": "/jobs/job_gone",
    "compare": "/compare?runs={runs}",
    "compare, classes": "/compare?tab=classes&runs={runs}",
    "compare, costs": "/compare?tab=costs&runs={runs}",
    "compare, images": "/compare?tab=images&runs={runs}",
    "compare, curves": "/compare?tab=curves&runs={runs}",
    "compare, specs": "/compare?tab=specs&runs={runs}",
    "compare, none": "/compare",
    "sweeps": "/sweeps",
    "sweep": "/sweeps/{sweep}",
    "sweep, trials": "/sweeps/{sweep}?tab=trials&brush=student.width:0.5:1",
    "sweep, slices": "/sweeps/{sweep}?tab=slices",
    "sweep, spec": "/sweeps/{sweep}?tab=spec",
    "sweep, gone": "/sweeps/sweep_gone",
    "models": "/models",
    "models, refused": "/models?q=colour:red",
    "datasets": "/datasets",
    "tables": "/tables",
    "table": "/tables/{table}",
    "table, cells": "/tables/{table}?tab=cells",
    "table, manifest": "/tables/{table}?tab=manifest",
    "new": "/new",
    "cluster": "/cluster",
    "settings": "/settings",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(unguarded: BrowserContext, server: Server, axe: str, scheme: str) -> None:
    page = unguarded.new_page()
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    page.goto(f"/#token={server.token}")
    page.get_by_role("heading", name="Overview").wait_for()
    story = server.story
    ids = {
        "sweep": story["sweep"],
        "table": story["table"],
        "done": story["bckd"][0],
        "failed": story["failed"],
        "runs": ",".join(story["bckd"] + story["baseline"]),
    }
    found = {name: faults for name, path in PAGES.items() if (faults := _check(page, path.format_map(ids), axe))}
    page.goto("about:blank")  # what is still under way would bring the cookie back
    page.context.clear_cookies()
    page.goto("/")
    page.get_by_role("heading", name="Sign in").wait_for()
    if faults := _axe(page, axe):
        found["sign in"] = faults
    assert found == {}


def _check(page: Page, path: str, axe: str) -> list[str]:
    page.goto(path)
    page.locator("main h1, main [role=alert]").first.wait_for()
    page.wait_for_load_state("networkidle") if "live" not in path else page.wait_for_timeout(500)
    page.wait_for_timeout(200)
    return _axe(page, axe)


def _axe(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)
    answer: dict[str, Any] = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in answer["violations"]]
