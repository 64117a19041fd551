"""A sweep in the browser: who won over seeds, which trials a brush keeps, and what can be done with it."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from service.cli.files import read_values
from service.models import Sweep
from tests.helpers.api import FakeDriver, end_job, tiny_sweep
from tests.helpers.jobs import add_points
from tests.ui.story import Server


def test_the_winner_over_seeds_stands_first(page: Page, server: Server) -> None:
    page.goto("/sweeps")
    page.get_by_role("link", name="weights of the story").click()
    expect(page.get_by_text("#7 has the best mean: AP 40.67 over 3 seeds")).to_be_visible()
    expect(page.get_by_text("better beyond noise")).to_be_visible()
    expect(page.get_by_text("12 trials, 3 stopped early")).to_be_visible()
    expect(page.get_by_text("1 trial failed: the loss is not finite")).to_be_visible()
    ranking = page.get_by_role("region", name="Best trials again on more seeds").first
    expect(ranking.get_by_role("row").nth(1)).to_contain_text("#7")
    expect(ranking.get_by_role("row").nth(3)).to_contain_text("default")
    matter = page.get_by_role("region", name="Which parameters matter").first
    expect(matter.get_by_role("row").nth(1)).to_contain_text("schedule.optimizer.lr")
    expect(page.get_by_role("img", name="Best so far: 8 trials")).to_be_visible()


def test_a_brush_keeps_a_part_of_lines_and_rows_and_is_part_of_the_address(page: Page, server: Server) -> None:
    page.goto(f"/sweeps/{server.story['sweep']}?tab=trials")
    table = page.get_by_role("region", name="Trials", exact=True)
    expect(table.get_by_role("row")).to_have_count(13)
    plot = page.get_by_role("img", name="Trials: 12 of 12 trials")
    box = plot.bounding_box()
    assert box is not None
    # the upper half of the axis of student.width, in the middle
    x, top = box["x"] + box["width"] / 2, box["y"] + 34
    page.mouse.move(x, top + 60)
    page.mouse.down()
    page.mouse.move(x, top - 4, steps=4)
    page.mouse.up()
    expect(table.get_by_role("row")).to_have_count(5)
    expect(page.get_by_text("4 of 12 trials")).to_be_visible()
    assert "brush=student.width:" in page.url
    page.reload()
    expect(table.get_by_role("row")).to_have_count(5)
    page.get_by_role("button", name="Show all").click()
    expect(table.get_by_role("row")).to_have_count(13)
    expect(table).to_contain_text("stopped by ASHA at step 1")


def test_the_best_spec_is_a_file_that_can_be_submitted(page: Page, server: Server) -> None:
    page.goto(f"/sweeps/{server.story['sweep']}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the best spec").click()
    spec = read_values(Path(download.value.path()))
    assert spec["schedule"]["optimizer"]["lr"] == 0.049
    checked = server.voice.post("/api/v1/jobs:validate", json=spec).json()
    assert checked["errors"] == []


def test_a_sweep_that_searches_is_followed_paused_resumed_extended_and_stopped(page: Page, server: Server) -> None:
    made = server.voice.post("/api/v1/sweeps", json=tiny_sweep(name="goes on")).json()["id"]
    driver = FakeDriver(server.voice, made)
    page.goto(f"/sweeps/{made}")
    expect(page.get_by_text("No trial has begun yet.")).to_be_visible()
    driver.add(1, lr=0.01, width=4)
    page.get_by_role("tab", name="Trials").click()
    expect(page.get_by_role("link", name="#1")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("searching", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Extend").click()
    page.get_by_label("Trials in all").fill("9")
    page.get_by_role("dialog").get_by_role("button", name="Extend").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped", exact=True).first).to_be_visible()
    with server.voice.app.state.db.read() as session:  # type: ignore[attr-defined]
        row = session.get(Sweep, made)
        assert (row.state, row.spec["budget"]["trials"]) == ("stopped", 9)


def test_slices_show_every_parameter(page: Page, server: Server) -> None:
    page.goto(f"/sweeps/{server.story['sweep']}?tab=slices")
    for path in ("schedule.optimizer.lr", "student.width"):
        expect(page.get_by_role("img", name=f"{path}: 12 trials")).to_be_visible()


def test_of_two_objectives_the_front_stands_out(page: Page, server: Server) -> None:
    spec = tiny_sweep(name="two objectives", objectives=[{"metric": "AP"}, {"metric": "parameters"}])
    made = server.voice.post("/api/v1/sweeps", json=spec).json()["id"]
    driver = FakeDriver(server.voice, made)
    for number, (ap, parameters) in enumerate([(30.0, 9000.0), (40.0, 20000.0), (35.0, 25000.0)], 1):
        job = driver.add(number, lr=0.01, width=4)["job_id"]
        end_job(server.voice, job, ap)
        with server.voice.app.state.db.write() as session:  # type: ignore[attr-defined]
            add_points(session, job, {"parameters": [(4, parameters, 1.0)]})
    driver.ask("POST", "/end", {})
    page.goto(f"/sweeps/{made}")
    expect(page.get_by_text("Filled: the Pareto front (#2, #1)")).to_be_visible()
    expect(page.get_by_role("img", name="AP against parameters: 3 trials")).to_be_visible()
