"""Is the student better? The comparison, its curves, its specs; and a new job."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.helpers.api import start, tiny_spec
from tests.ui.story import Server


def _address(server: Server) -> str:
    return "/compare?runs=" + ",".join(server.story["bckd"] + server.story["baseline"])


def test_three_seeds_tell_that_the_student_is_better(page: Page, server: Server) -> None:
    page.goto(_address(server))
    row = page.get_by_role("region", name="Differences").get_by_role("row").nth(1)
    expect(row).to_contain_text("better")
    expect(row).to_contain_text("+5.0")
    expect(row).to_contain_text("3 paired")
    expect(page.get_by_role("img", name="95 % interval")).to_be_visible()
    groups = page.get_by_role("region", name="Groups over seeds")
    expect(groups).to_contain_text("35.7 ± 0.6")
    expect(groups).to_contain_text("teacher")


def test_one_seed_gives_no_verdict(page: Page, server: Server) -> None:
    page.goto(f"/compare?runs={server.story['bckd'][0]},{server.story['baseline'][0]}")
    expect(page.get_by_role("region", name="Differences").get_by_role("row").nth(1)).to_contain_text("not enough seeds")


def test_classes_that_gain_are_told_from_noise(page: Page, server: Server) -> None:
    page.goto(_address(server))
    page.get_by_role("tab", name="Classes and sizes").click()
    page.wait_for_url("**tab=classes**")
    expect(page.get_by_text("Of 2 classes 1 clearly gains and 0 clearly lose.")).to_be_visible()
    classes = page.get_by_role("region", name="Classes", exact=True)
    cells = classes.get_by_role("row").filter(has_text="cells")
    expect(cells).to_contain_text("+5.0")
    expect(cells).to_contain_text("better")
    expect(classes.get_by_role("row").filter(has_text="platelets")).to_contain_text("no clear difference")
    expect(classes).not_to_contain_text("dust")  # without objects
    expect(page.get_by_role("region", name="Sizes of objects")).to_contain_text("medium")
    classes.get_by_role("button", name="Class").click()
    expect(classes.get_by_role("row").nth(1)).to_contain_text("cells")


def test_what_it_costs_and_who_is_worth_it(page: Page, server: Server) -> None:
    page.goto(_address(server))
    page.get_by_role("tab", name="Cost").click()
    page.wait_for_url("**tab=costs**")
    chart = page.get_by_role("img", name="AP by parameters.")
    expect(chart).to_have_attribute("aria-label", re.compile(r"bckd.*: 35\.7 at 610,000 \(front\)"))
    expect(chart).to_have_attribute("aria-label", re.compile(r"baseline[^;]*: 30\.7 at 610,000(;|$)"))
    table = page.get_by_role("region", name="What it costs")
    expect(table.get_by_role("row").filter(has_text="teacher")).to_contain_text("2.4 M")
    expect(table).to_contain_text("ms on H100")
    page.locator("input[aria-label=Cost]").click()
    page.get_by_role("option", name="ms for one image on H100").click()
    page.wait_for_url("**cost=latency_ms:H100:p")
    page.reload()
    expect(page.get_by_role("img", name="AP by ms for one image on H100")).to_be_visible()


def test_a_chart_is_saved_with_where_it_comes_from(page: Page, server: Server) -> None:
    page.goto(_address(server) + "&tab=costs")

    def saved(kind: str) -> bytes:
        page.get_by_role("button", name="Save the chart AP by parameters").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=kind).click()
        return Path(download.value.path()).read_bytes()

    svg = saved("SVG").decode()
    assert "bckd gfl-tiny-4" in svg
    assert "bcd: AP by parameters;" in svg
    assert "var(--" not in svg  # colours that hold outside of the page
    assert saved("PNG").startswith(b"\x89PNG")
    lines = saved("CSV").decode().splitlines()
    assert lines[0] == "Runs,Cost,AP,On the front"
    assert any(line.startswith("bckd gfl-tiny-4,610000,35.66") and line.endswith(",yes") for line in lines)
    page.get_by_text("As a table", exact=True).click()
    table = page.get_by_role("region", name="AP by parameters as a table")
    expect(table.get_by_role("row").filter(has_text="baseline")).to_contain_text("no")


def test_curves_are_saved_as_they_are_drawn(page: Page, server: Server) -> None:
    page.goto(_address(server) + "&tab=curves&metric=loss")
    page.get_by_role("button", name="Save the chart loss by step").click()
    expect(page.get_by_role("menuitem", name="PNG")).to_be_visible()
    expect(page.get_by_role("menuitem", name="SVG")).not_to_be_attached()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="CSV").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "line,step,loss"
    assert len(lines) == 1 + 6 * 4
    page.get_by_role("button", name="Save the chart loss by step").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_the_table_as_latex(page: Page, server: Server) -> None:
    page.goto(_address(server))
    page.get_by_role("button", name="Export").last.click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="LaTeX").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert text.startswith("% bcd: groups")
    assert "\\begin{tabular}" in text
    assert "35.6667" in text


def test_a_shared_link_shows_the_same_view(page: Page, server: Server) -> None:
    job, worker = start(server.voice, tiny_spec(name="curved"))
    worker.send(*(worker.metric(step, loss=10.0 / step, AP=float(step)) for step in range(1, 5)))
    worker.send(worker.ended("succeeded"))
    page.goto(f"/compare?runs={job['id']}&tab=curves&metric=loss&smooth=0.5&log=1")
    expect(page.get_by_label("Metric", exact=True).first).to_have_value("loss")
    expect(page.get_by_text("Smoothing 0.5")).to_be_visible()
    expect(page.get_by_role("switch", name="Log scale")).to_be_checked()
    expect(page.get_by_role("figure")).to_have_attribute("aria-label", "loss by step: curved (seed 0) ends at 3.56")
    page.get_by_text("duration", exact=True).click()
    page.wait_for_url("**x=relative_time**")
    page.reload()
    expect(page.get_by_role("figure")).to_be_visible()
    assert "smooth=0.5" in page.url


def test_specs_that_differ_in_more_than_the_method_are_pointed_out(page: Page, server: Server) -> None:
    page.goto(f"/compare?tab=specs&runs={server.story['bckd'][0]},{server.story['teacher']}")
    expect(page.get_by_text("The runs differ in more than their method: student.width")).to_be_visible()


def test_without_runs_the_page_says_where_to_choose_them(page: Page) -> None:
    page.goto("/compare")
    expect(page.get_by_text("No runs are chosen")).to_be_visible()


def test_a_run_that_is_gone_is_said(page: Page, server: Server, faults: list[str]) -> None:
    faults.append("status of 404")
    page.goto(f"/compare?runs={server.story['bckd'][0]},job_gone")
    expect(page.get_by_text("1 run of them cannot be found")).to_be_visible()


def test_a_job_is_submitted_from_the_form(page: Page, server: Server) -> None:
    page.goto("/new")
    expect(page.get_by_text("✓ This can be submitted.")).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/job_*")
    expect(page.get_by_role("heading", name="digits-small")).to_be_visible()


def test_a_fair_comparison_adds_the_baseline_over_the_same_seeds(page: Page, server: Server) -> None:
    page.goto(f"/new?from={server.story['bckd'][0]}")
    page.get_by_label("Seeds", exact=True).fill("10-12")
    page.get_by_label("Group").fill("fair")
    page.get_by_role("switch", name="Make it a fair comparison").check()
    page.get_by_role("button", name="Submit 6 jobs").click()
    page.wait_for_url("**/jobs?q=**")
    expect(page.get_by_text("6 jobs:")).to_be_visible()
    items = server.voice.get("/api/v1/jobs", params={"filter": "group:fair"}).json()["items"]
    assert sorted((len(job["methods"]), job["seed"]) for job in items) == [(n, s) for n in (0, 1) for s in (10, 11, 12)]


def test_a_spec_that_is_wrong_cannot_be_submitted_and_says_where(page: Page) -> None:
    page.goto("/new")
    spec = page.get_by_label("Spec")
    spec.fill("name: x\nschedule:\n  steps: -5\n")
    expect(page.get_by_text("/schedule/steps")).to_be_visible()
    expect(page.get_by_role("button", name="Submit")).to_be_disabled()
    spec.fill("name: [")
    expect(page.get_by_text("the spec cannot be read")).to_be_visible()
    page.get_by_label("Seeds", exact=True).fill("3-1")
    expect(page.get_by_text("3-1 runs backwards: write 1-3")).to_be_visible()


def test_a_draft_survives_a_reload(page: Page) -> None:
    page.goto("/new")
    page.get_by_label("Spec").fill("name: kept\n")
    page.reload()
    expect(page.get_by_label("Spec")).to_have_value("name: kept\n")


def test_a_token_is_shown_once_and_revoked(page: Page) -> None:
    page.goto("/settings")
    page.get_by_label("What it is for").fill("for a script")
    page.get_by_role("button", name="Make a token").click()
    secret = page.locator("code", has_text="bcd_").inner_text()
    assert secret.startswith("bcd_")
    page.reload()
    expect(page.get_by_role("cell", name="for a script", exact=True)).to_be_visible()
    assert secret not in page.content()
    page.get_by_role("button", name="Revoke for a script").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("row", name="for a script")).to_contain_text("revoked")
