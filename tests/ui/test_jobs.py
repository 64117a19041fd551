"""The list of jobs, and one job."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.helpers.api import FakeWorker, claim, start, submit, tiny_spec
from tests.ui.story import MANY, Server


def test_a_filter_is_part_of_the_address_and_survives_a_reload(page: Page) -> None:
    page.goto("/jobs")
    page.get_by_label("Filter").fill("method:bckd AP>35.5")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("2 jobs: 2 succeeded")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Filter")).to_have_value("method:bckd AP>35.5")
    expect(page.get_by_role("link", name="bckd-1")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Filter")).to_be_visible()


def test_a_filter_that_cannot_be_read_says_why(page: Page, faults: list[str]) -> None:
    faults.append("status of 422")
    page.goto("/jobs")
    page.get_by_label("Filter").fill("colour:red")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("alert")).to_contain_text("colour")


def test_nothing_found_offers_the_way_back(page: Page) -> None:
    page.goto("/jobs?q=nothingiscalledthis")
    page.get_by_role("button", name="Show all jobs").click()
    expect(page.get_by_role("link", name="waiting 229")).to_be_visible()


def test_rows_come_as_they_are_scrolled_to(page: Page) -> None:
    page.goto("/jobs?q=waiting&sort=name")
    expect(page.get_by_role("link", name="waiting 000")).to_be_visible()
    frame = page.get_by_role("region", name="Jobs")
    for _ in range(40):
        frame.evaluate("node => node.scrollTo(0, node.scrollHeight)")
        if page.get_by_role("link", name=f"waiting {MANY - 1}").count():
            break
        page.wait_for_timeout(150)
    expect(page.get_by_role("link", name=f"waiting {MANY - 1}")).to_be_visible()
    assert page.get_by_role("row").count() < 150  # only what is looked at is drawn


def test_sorting_by_accuracy(page: Page) -> None:
    page.goto("/jobs")
    page.get_by_role("button", name="AP", exact=True).click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("teacher")
    expect(page.get_by_role("columnheader", name="AP")).to_have_attribute("aria-sort", "descending")
    assert "sort=-best.AP" in page.url


def test_chosen_rows_are_compared(page: Page, server: Server) -> None:
    page.goto("/jobs?q=bckd- state:succeeded")
    page.get_by_role("checkbox", name="Select bckd-0").check()
    page.get_by_role("checkbox", name="Select bckd-1").check()
    page.reload()
    expect(page.get_by_text("2 selected")).to_be_visible()  # the choice is part of the address
    page.get_by_role("link", name="Compare").last.click()
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()
    assert all(job in page.url for job in server.story["bckd"][:2])


def test_a_batch_says_what_it_left_alone(page: Page, server: Server) -> None:
    job = submit(server.voice, tiny_spec(name="batch me"))["id"]
    page.goto("/jobs?q=name:batch or name:teacher")
    page.get_by_role("checkbox", name="Select batch me").check()
    page.get_by_role("checkbox", name="Select teacher").check()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("1 of 2 were left as they are")).to_be_visible()
    assert server.voice.get(f"/api/v1/jobs/{job}").json()["state"] == "cancelled"


def test_the_list_as_a_file(page: Page, tmp_path: Path) -> None:
    page.goto("/jobs?q=method:bckd state:succeeded -table&sort=name")
    page.get_by_role("link", name="bckd-0").wait_for()
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert [(row["Name"], row["AP"]) for row in rows] == [("bckd-0", "35"), ("bckd-1", "36.1"), ("bckd-2", "35.9")]


def test_a_run_is_watched_to_its_end(page: Page, server: Server) -> None:
    job = submit(server.voice, tiny_spec(name="watched"))
    page.goto(f"/jobs/{job['id']}")
    expect(page.get_by_text("queued", exact=True)).to_be_visible()
    worker = FakeWorker(server.voice, *claim(server.voice, job["id"]))
    worker.send(worker.running(), worker.metric(1, loss=2.0), worker.metric(2, loss=1.5))
    expect(page.get_by_text("running", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="Loss and its terms")).to_be_visible()
    expect(page.get_by_text("step 2 of 4")).to_be_visible()
    worker.send(
        worker.artifact("result", "student", 4, b"weights"), worker.evaluation(41.26), worker.ended("succeeded")
    )
    expect(page.get_by_text("succeeded", exact=True)).to_be_visible()
    page.get_by_role("tab", name="Results").click()
    expect(page.get_by_role("row", name="AP 41.3")).to_be_visible()
    page.get_by_role("tab", name="Files").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="student").click()
    assert Path(download.value.path()).read_bytes() == b"weights"


def test_a_failure_shows_its_cause_and_its_traceback(page: Page, server: Server) -> None:
    page.goto(f"/jobs/{server.story['failed']}")
    expect(page.get_by_text("the loss is not finite at step 3").first).to_be_visible()
    page.get_by_role("tab", name="Lineage").click()
    expect(page.get_by_text("Traceback: NaN")).to_be_visible()
    page.get_by_role("tab", name="Log").click()
    expect(page.get_by_role("log")).to_contain_text("ERROR the loss is not finite")


def test_a_log_is_searched_and_followed(page: Page, server: Server) -> None:
    job, worker = start(server.voice, tiny_spec(name="talks"))
    worker.send(*(worker.record("log", level="info", text=f"line {i}") for i in range(60)))
    page.goto(f"/jobs/{job['id']}?tab=log")
    expect(page.get_by_role("log")).to_contain_text("line 59")
    worker.send(worker.record("log", level="warning", text="something new"))
    expect(page.get_by_role("log")).to_contain_text("WARNING something new")
    page.get_by_label("Search").fill("line 17")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("1 lines")).to_be_visible()
    worker.send(worker.ended("succeeded"))


def test_the_spec_is_shown_as_a_file(page: Page, server: Server) -> None:
    page.goto(f"/jobs/{server.story['bckd'][0]}?tab=spec")
    expect(page.get_by_role("region", name="Spec")).to_contain_text("type: bckd")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a file").click()
    assert download.value.suggested_filename == "bckd-0.yaml"


def test_a_job_that_is_not_there(page: Page, faults: list[str]) -> None:
    faults.append("status of 404")
    page.goto("/jobs/job_nothing")
    expect(page.get_by_role("alert")).to_contain_text("Not found")


def test_cancelling(page: Page, server: Server) -> None:
    job = submit(server.voice, tiny_spec(name="stop me"))["id"]
    page.goto(f"/jobs/{job}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("cancelled", exact=True)).to_be_visible()


def test_a_lost_connection_is_said_and_recovered(page: Page, server: Server, faults: list[str]) -> None:
    faults += ["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED", "ERR_CONNECTION_RESET"]
    job = submit(server.voice, tiny_spec(name="survives"))
    page.goto(f"/jobs/{job['id']}")
    expect(page.get_by_text("queued", exact=True)).to_be_visible()
    server.end()
    expect(page.get_by_text("connection lost, trying again")).to_be_visible()
    worker = FakeWorker(server.voice, *claim(server.voice, job["id"]))
    worker.send(worker.running())
    server.begin()
    expect(page.get_by_text("running", exact=True)).to_be_visible()
    expect(page.get_by_text("connection lost, trying again")).to_have_count(0)
    worker.send(worker.ended("succeeded"))


def test_the_overview_says_what_is_best_so_far(page: Page, server: Server) -> None:
    page.goto("/")
    board = page.get_by_role("region", name="Best so far: digits-scenes-v1, protocol p")
    rows = board.get_by_role("row")
    expect(rows.nth(1)).to_contain_text("teacher")
    distilled = rows.filter(has_text="bckd gfl-tiny-4").first
    expect(distilled).to_contain_text("+")  # its lead over the baseline
    distilled.get_by_role("link").click()
    page.wait_for_url("**/compare?runs=**")


def test_columns_are_chosen_and_stay_in_the_address(page: Page, server: Server) -> None:
    page.goto("/jobs?q=bckd- state:succeeded")
    page.get_by_role("button", name="Columns").click()
    page.get_by_role("checkbox", name="Seed").uncheck()
    page.get_by_role("checkbox", name="Tags").check()
    page.get_by_label("Which value").select_option("last")
    page.get_by_role("combobox", name="Metric").click()
    page.get_by_role("option", name="latency_ms").click()
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_url("**cols=**last.latency_ms**")
    page.reload()
    headers = page.get_by_role("columnheader")
    expect(headers.filter(has_text="last latency_ms")).to_be_visible()
    expect(headers.filter(has_text="Seed")).not_to_be_attached()
    expect(page.get_by_role("row").filter(has_text="bckd-0")).to_contain_text("3.1")
