"""Every page in both themes, on a desk and on a telephone: `python -m tests.ui.screenshots FOLDER`, to be looked at.

Ends with 1 when a page writes an error or scrolls sideways.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.ui.story import find_browser, told

SIZES = {"desk": (1440, 900), "telephone": (390, 844)}
SETTLE = 900  # milliseconds, for charts


def pages(story: dict[str, list[str] | str]) -> dict[str, str]:
    runs = ",".join([*story["bckd"], *story["baseline"]])
    done, failed = story["bckd"][0], story["failed"]
    tabs = {
        f"job-{tab}": f"/jobs/{done}?tab={tab}" for tab in ("live", "results", "images", "log", "spec", "artifacts")
    }
    return {
        "overview": "/",
        "jobs": "/jobs",
        "jobs-none": "/jobs?q=nothingiscalledthis",
        **tabs,
        "job-lineage": f"/jobs/{failed}?tab=lineage",
        "compare": f"/compare?runs={runs}",
        "compare-classes": f"/compare?tab=classes&runs={runs}",
        "compare-costs": f"/compare?tab=costs&runs={runs}",
        "compare-images": f"/compare?tab=images&runs={runs}",
        "compare-curves": f"/compare?tab=curves&metric=loss&runs={runs}",
        "compare-specs": f"/compare?tab=specs&runs={runs}",
        "compare-none": "/compare",
        "sweeps": "/sweeps",
        "sweep": f"/sweeps/{story['sweep']}",
        "sweep-trials": f"/sweeps/{story['sweep']}?tab=trials",
        "sweep-brushed": f"/sweeps/{story['sweep']}?tab=trials&brush=student.width:0.5:1",
        "sweep-slices": f"/sweeps/{story['sweep']}?tab=slices",
        "sweep-spec": f"/sweeps/{story['sweep']}?tab=spec",
        "tables": "/tables",
        "table": f"/tables/{story['table']}",
        "table-cells": f"/tables/{story['table']}?tab=cells",
        "table-manifest": f"/tables/{story['table']}?tab=manifest",
        "models": "/models",
        "datasets": "/datasets",
        "new": "/new",
        "cluster": "/cluster",
        "settings": "/settings",
    }


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    folder, faults = Path(sys.argv[1]), list[str]()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, told(Path(home)) as server, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                context = browser.new_context(
                    base_url=server.url, viewport={"width": width, "height": height}, color_scheme=scheme
                )  # type: ignore[arg-type]
                page = context.new_page()
                page.on("console", lambda message, faults=faults: _note(faults, message.type, message.text))
                page.goto(f"/#token={server.token}")
                page.get_by_role("heading", name="Overview").wait_for()
                faults.clear()  # of the first question, before the sign-in
                for name, path in pages(server.story).items():
                    faults += _take(page, path, folder / f"{name}-{scheme}-{size}.png", width)
                context.close()
        browser.close()
    print("\n".join(faults) or f"{len(list(folder.glob('*.png')))} pictures in {folder}: look at them")
    return 1 if faults else 0


def _note(faults: list[str], kind: str, text: str) -> None:
    if kind == "error":
        faults.append(text)


def _take(page: Page, path: str, file: Path, width: int) -> list[str]:
    page.goto(path)
    page.locator("main h1, main h2").first.wait_for()
    page.wait_for_timeout(SETTLE)
    page.screenshot(path=file)
    wide = int(page.evaluate("document.documentElement.scrollWidth")) - width
    return [f"{path} is {wide} px wider than {width}"] if wide > 0 else []


if __name__ == "__main__":
    sys.exit(main())
