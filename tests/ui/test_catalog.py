"""Models and data sets."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.ui.story import Server


def test_models_are_listed_with_their_costs_and_sorted(page: Page, server: Server) -> None:
    page.goto("/models?q=base-+or+bckd-+or+teacher")
    table = page.get_by_role("region", name="Models")
    table.get_by_role("button", name="AP", exact=True).click()
    page.wait_for_url("**sort=**best.AP**")
    expect(table.get_by_role("row").nth(1)).to_contain_text("teacher")
    expect(table.get_by_role("row").nth(1)).to_contain_text("2.4 M")
    expect(table.get_by_role("row").nth(1)).to_contain_text("50.0")


def test_a_model_can_be_downloaded_and_become_a_teacher(page: Page, server: Server) -> None:
    page.goto("/models?q=teacher")
    page.get_by_role("button", name="teacher", exact=True).click()
    drawer = page.get_by_role("dialog", name="teacher")
    expect(drawer).to_contain_text("9.2 ms on H100")
    expect(drawer).to_contain_text(f"bcd download {server.story['teacher']}")
    with page.expect_download() as download:
        drawer.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes() == server.story["teacher"].encode()
    drawer.get_by_role("link", name="Use as teacher").click()
    page.wait_for_url("**/new?teacher=**")
    expect(page.get_by_text("✓ This can be submitted.")).to_be_visible()
    text = page.get_by_label("Spec").input_value()
    assert f"job: {server.story['teacher']}" in text
    assert "type: bckd" in text


def test_models_are_chosen_and_compared(page: Page, server: Server) -> None:
    page.goto("/models?q=base-")
    for name in ("base-0", "base-1"):
        page.get_by_role("checkbox", name=name).check()
    page.get_by_role("link", name="Compare", exact=True).last.click()
    page.wait_for_url("**/compare?runs=**")


def test_a_filter_that_cannot_be_read_is_refused(page: Page, faults: list[str]) -> None:
    faults.append("status of 422")
    page.goto("/models?q=colour:red")
    expect(page.get_by_role("alert")).to_contain_text("colour")


def test_a_data_set_shows_its_classes_sizes_and_pictures(page: Page, server: Server) -> None:
    page.goto("/datasets")
    expect(page.get_by_text("30 objects of 2 classes on 12 pictures")).to_be_visible()
    classes = page.get_by_role("region", name="Classes", exact=True)
    expect(classes.get_by_role("row").filter(has_text="cells")).to_contain_text("18")
    expect(page.get_by_role("img", name="field-03.png: 4 objects")).to_be_visible()
    expect(page.get_by_role("region", name="Datasets")).to_contain_text("digits-scenes-v1")
