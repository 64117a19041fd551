"""Reproduce a table; share a view."""

from __future__ import annotations

import pytest
import yaml
from playwright.sync_api import Page, expect

from tests.helpers.api import end_job, tiny_spec
from tests.ui.story import Server


def _manifest(server: Server, name: str) -> str:
    spec = tiny_spec()
    return yaml.safe_dump(
        {
            "name": name,
            "job": {"data": spec["data"], "schedule": {**spec["schedule"], "steps": 6}},
            "teacher": {"job": server.story["teacher"]},
            "students": {"tiny": spec["student"]},
            "methods": {"labels": [], "bckd": [{"type": "bckd"}]},
            "seeds": [0, 1, 2],
            "published": {"tiny": {"labels": 30.0, "bckd": 36.0}},
        },
        sort_keys=False,
    )


def test_a_table_is_made_submitted_and_judged(page: Page, server: Server) -> None:
    page.goto("/tables")
    page.get_by_role("button", name="New table").click()
    page.get_by_role("textbox", name="Manifest").fill(_manifest(server, "table of the paper"))
    page.get_by_role("button", name="Keep").click()
    page.wait_for_url("**/tables/table_*")
    expect(page.get_by_text("6 cells: 6 missing.")).to_be_visible()
    page.get_by_role("button", name="Submit 6 cells").click()
    expect(page.get_by_text("6 cells: 6 under way.")).to_be_visible()
    table = page.url.rsplit("/", 1)[1]
    cells = server.voice.get(f"/api/v1/tables/{table}").json()["cells"]
    for i, cell in enumerate(cells):
        end_job(server.voice, cell["job_id"], (30.0 if cell["method"] == "labels" else 33.0) + 0.1 * (i % 3))
    expect(page.get_by_text("1 of 2 published figures reproduced within 0.5 points.")).to_be_visible()  # live
    rows = page.get_by_role("region", name="Results").get_by_role("row")
    expect(rows.filter(has_text="labels")).to_contain_text("30.1 ± 0.1")
    expect(rows.filter(has_text="labels")).to_contain_text("reproduced")
    expect(rows.filter(has_text="bckd")).to_contain_text("below")
    expect(rows.filter(has_text="bckd")).to_contain_text("+3.0")
    page.get_by_role("tab", name="Cells").click()
    expect(page.get_by_role("region", name="Cells").get_by_role("row")).to_have_count(7)


def test_a_change_of_the_manifest_shows_what_is_stale(page: Page, server: Server) -> None:
    made = server.voice.post("/api/v1/tables", json=yaml.safe_load(_manifest(server, "changing"))).json()
    for job in server.voice.post(f"/api/v1/tables/{made['id']}/submit").json()["job_ids"]:
        end_job(server.voice, job, 31.0)
    page.goto(f"/tables/{made['id']}?tab=manifest")
    text = page.get_by_role("textbox", name="Manifest").input_value()
    page.get_by_role("textbox", name="Manifest").fill(text.replace("type: bckd", "type: bckd\n      cls_weight: 2"))
    page.get_by_role("button", name="Keep the change").click()
    expect(page.get_by_text("6 cells: 3 done, 3 stale.")).to_be_visible()
    expect(page.get_by_role("button", name="Submit 3 cells")).to_be_visible()


def test_a_manifest_that_is_wrong_says_where(page: Page, server: Server, faults: list[str]) -> None:
    faults.append("status of 422")
    page.goto("/tables")
    page.get_by_role("button", name="New table").click()
    page.get_by_role("textbox", name="Manifest").fill(
        _manifest(server, "wrong").replace("backbone: tiny", "backbone: huge")
    )
    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_role("alert")).to_contain_text("/students/tiny/backbone")
    page.get_by_role("textbox", name="Manifest").fill("name: [")
    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_role("alert")).to_contain_text("the manifest cannot be read")


def test_a_view_is_saved_and_opened_by_its_short_address(page: Page, server: Server) -> None:
    runs = ",".join(server.story["bckd"] + server.story["baseline"])
    page.goto(f"/compare?runs={runs}&tab=curves&metric=loss&log=1")
    page.get_by_role("button", name="Share").click()
    page.get_by_label("Or keep it under a name").fill("loss, logarithmic")
    page.get_by_role("button", name="Save view").click()
    address = page.locator("code", has_text="/v/view_").inner_text()
    page.goto(address)
    page.wait_for_url("**/compare?**")
    expect(page.get_by_role("switch", name="Log scale")).to_be_checked()
    page.goto("/settings")
    row = page.get_by_role("row").filter(has_text="loss, logarithmic")
    expect(row.get_by_role("link", name="loss, logarithmic")).to_be_visible()
    row.get_by_role("button", name="Remove").click()
    expect(row).not_to_be_attached()


@pytest.mark.parametrize("path", ["/v/view_none", "/tables/table_none"])
def test_what_is_gone_is_said(page: Page, faults: list[str], path: str) -> None:
    faults.append("status of 404")
    page.goto(path)
    expect(page.get_by_role("alert")).to_contain_text("there is no")
