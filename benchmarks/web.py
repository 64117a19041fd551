"""How quick the web UI is, in a real browser on generated data of realistic size.

    python -m benchmarks.web            # 5,000 jobs, a comparison of 100 runs x 10,000 points, a sweep of 200 trials

Needs Chromium (Debian: `apt-get install chromium`) and the built UI (`make web`). Each figure is the median of several
tries with the range beside it. Draws end at the second animation frame after the change: then the pixels are there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from service import frontend, processes
from service.auth import owner_token
from service.seed.write import COMPARED, Size, seed
from service.settings import Settings
from tests.helpers.installation import free_ports
from tests.ui.story import find_browser

# Resolves with the time of the second frame after the selector is there.
_DRAWN = """selector => new Promise((done, fail) => {
  const look = () => {
    if (document.querySelector(selector))
      requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
    else if (performance.now() > 30000) fail(new Error(`${selector} is not there after 30 s`));
    else requestAnimationFrame(look);
  };
  look();
})"""
# Does something to an element; after how many ms was the chart made anew and drawn?
_AFTER = """async ([selector, act]) => {
  const chart = () => document.querySelector('.u-over'), before = chart();
  const element = document.querySelector(selector), start = performance.now();
  if (act === 'click') element.click();
  else element.dispatchEvent(new KeyboardEvent('keydown', {key: act, bubbles: true}));
  while (chart() === before || chart() === null) {
    if (performance.now() - start > 30000) throw new Error('the chart has not changed after 30 s');
    await new Promise(requestAnimationFrame);
  }
  await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""
_HOVER = """async () => {
  const over = document.querySelector('.u-over'), box = over.getBoundingClientRect(), times = [];
  for (let i = 0; i < 80; i++) {
    const start = performance.now(), place = {clientX: box.left + box.width * i / 80, clientY: box.top + 60};
    over.dispatchEvent(new MouseEvent('mousemove', {...place, bubbles: true}));
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - start);
  }
  return times;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="A home of `bcd seed-demo`; default: a new one, removed afterwards.")
    parser.add_argument("--tries", type=int, default=5)
    options = parser.parse_args()
    found = find_browser()
    if found is None or not frontend.is_built():
        sys.exit("needs Chromium and the built UI: apt-get install chromium; make web")
    with tempfile.TemporaryDirectory() as folder:
        home = options.home
        if home is None:
            home = Path(folder)
            seed(Settings.load(home), Size(), _say)
        with _api(home) as settings, sync_playwright() as play:
            browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
            rows = list(_measure(browser, settings, options.tries))
            browser.close()
    print(f"\n{os.cpu_count()} cores, no GPU; median of {options.tries} (lowest to highest)\n")
    print("| what | measured | target |\n|---|---|---|")
    for row in rows:
        print(row)


def _measure(browser: Browser, settings: Settings, tries: int) -> Iterator[str]:
    def fresh() -> Page:
        page = browser.new_context(base_url=settings.api_url, viewport={"width": 1440, "height": 900}).new_page()
        page.goto(f"/#token={owner_token(settings)}")
        page.get_by_role("heading", name="Overview").wait_for()
        return page

    def repeated(act: Callable[[], float]) -> list[float]:
        return [act() for _ in range(tries)]

    _say("first page")
    sizes: list[float] = []

    def first_paint() -> float:
        context = browser.new_context(base_url=settings.api_url, viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(f"/#token={owner_token(settings)}")
        page.get_by_role("heading", name="Overview").wait_for()
        entries = page.evaluate("performance.getEntriesByType('resource').map(one => [one.name, one.encodedBodySize])")
        sizes.append(sum(size for name, size in entries if name.endswith((".js", ".css"))) / 1000)
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        context.close()
        return float(paint)

    yield _row("first contentful paint (nothing cached)", repeated(first_paint), "ms", "1,000")
    yield _row("scripts and styles of the first page, compressed", sizes, "kB", "230")

    _say("compare")
    group = COMPARED.replace(" ", "%20")

    def curves() -> float:
        page.goto(f"/compare?group={group}&tab=curves&metric=loss&by=none")
        return float(page.evaluate(_DRAWN, ".u-over"))

    page = fresh()
    yield _row("Compare, 100 runs x 10,000 points: navigation to drawn", repeated(curves), "ms", "1,500")
    switch = "input[role=switch]"
    yield _row("log scale on or off", repeated(lambda: page.evaluate(_AFTER, [switch, "click"])), "ms", "200")
    slider = "[role=slider]"
    yield _row("one step of smoothing", repeated(lambda: page.evaluate(_AFTER, [slider, "ArrowRight"])), "ms", "200")
    times = sorted(page.evaluate(_HOVER))
    yield _row("hover, frame by frame, p95 of 80", [times[int(0.95 * len(times))]], "ms", "50")

    def verdict() -> float:
        page.goto(f"/compare?group={group}")
        return float(page.evaluate(_DRAWN, "table tbody tr"))

    yield _row("verdict over 100 runs: navigation to drawn", repeated(verdict), "ms", "1,000")

    _say("jobs")
    page.goto("/jobs")
    page.locator("tbody tr").first.wait_for()

    def sort() -> float:
        before = page.locator("tbody tr").nth(1).inner_text()
        start = time.perf_counter()
        page.get_by_role("button", name="AP", exact=True).click()
        page.wait_for_function("before => document.querySelectorAll('tbody tr')[1]?.innerText !== before", arg=before)
        return 1000 * (time.perf_counter() - start)

    yield _row("5,000 jobs sorted by the service: click to other rows", repeated(sort), "ms", "150")

    _say("a sweep")

    def sweep() -> float:
        page.goto("/sweeps/sweep_generated?tab=trials")
        return float(page.evaluate(_DRAWN, "main svg path"))

    yield _row("parallel coordinates of 200 trials: navigation to drawn", repeated(sweep), "ms", "1,000")

    _say("live")
    yield _row(
        "an event to pixels: a job that is paused over REST", list(_live(fresh(), settings, tries)), "ms", "1,000"
    )


def _live(page: Page, settings: Settings, tries: int) -> Iterator[float]:
    headers = {"Authorization": f"Bearer {owner_token(settings)}"}
    spec = {"name": "live", "data": {"type": "digits-scenes-v1"}, "student": {"backbone": "tiny"}}
    with httpx.Client(base_url=f"{settings.api_url}/api/v1", headers=headers, trust_env=False) as client:
        job = client.post("/jobs", json=spec, params={"project": "default"}).raise_for_status().json()["id"]
        page.goto(f"/jobs/{job}")
        for i in range(tries):
            verb, state = ("pause", "paused") if i % 2 == 0 else ("resume", "queued")
            page.wait_for_timeout(1500)
            start = time.perf_counter()
            client.post(f"/jobs/{job}/{verb}").raise_for_status()
            page.get_by_text(state, exact=True).first.wait_for()
            yield 1000 * (time.perf_counter() - start)
        client.post(f"/jobs/{job}/cancel")


@contextmanager
def _api(home: Path) -> Iterator[Settings]:
    """The api alone: nothing here is to be trained."""
    os.environ["BCD_API_PORT"] = str(free_ports(1)[0])
    settings = Settings.load(home)
    wanted = processes.api(settings)
    process = subprocess.Popen(
        wanted.command, env=wanted.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{settings.api_url}/healthz", timeout=2, trust_env=False).is_success:
                    break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)
        yield settings
    finally:
        process.terminate()
        process.wait(20)


def _row(what: str, values: list[float], unit: str, target: str) -> str:
    values = sorted(values)
    spread = f" ({values[0]:.0f} to {values[-1]:.0f})" if len(values) > 1 else ""
    return f"| {what} | {statistics.median(values):.0f} {unit}{spread} | {target} {unit} |"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
