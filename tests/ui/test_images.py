"""On which images do teacher, student and baseline differ?"""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.ui.story import Server


def _address(server: Server, more: str = "") -> str:
    return "/compare?tab=images&runs=" + ",".join(server.story["bckd"] + server.story["baseline"]) + more


def test_images_that_the_teacher_sees_and_the_student_does_not(page: Page, server: Server) -> None:
    page.goto(_address(server))
    images = page.get_by_role("navigation", name="Images")
    expect(images.get_by_role("listitem")).to_have_count(2)
    expect(images.get_by_role("listitem").first).to_contain_text("teacher finds 1 object that bckd-0 misses: cells")
    expect(page.get_by_role("img", name="Ground truth: 4 objects")).to_be_visible()
    expect(page.get_by_role("img", name="Teacher: teacher (seed 0): 4 right, 0 wrong, 0 missed")).to_be_visible()
    student = page.get_by_role("img", name="Student: bckd-0 (seed 0): 3 right, 0 wrong, 1 missed")
    expect(student).to_contain_text("missed cells")
    expect(page.get_by_role("img", name="Baseline: base-0 (seed 0): 2 right, 0 wrong, 2 missed")).to_be_visible()
    picture = student.locator("image").get_attribute("href")
    assert picture is not None
    answer = page.request.get(picture)
    assert answer.headers["content-type"] == "image/jpeg"


def test_keys_go_through_the_queue_and_the_address_keeps_the_place(page: Page, server: Server) -> None:
    page.goto(_address(server))
    expect(page.get_by_role("img", name="Ground truth: 4 objects")).to_be_visible()
    page.keyboard.press("j")
    page.wait_for_url("**image=107**")
    expect(page.get_by_role("img", name="Student: bckd-0")).to_contain_text("missed platelets")
    page.reload()
    expect(page.get_by_role("button", name="field-07.png")).to_have_attribute("aria-current", "true")
    page.keyboard.press("k")
    page.wait_for_url("**image=103**")
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url("**/jobs")


def test_what_distilling_has_won(page: Page, server: Server) -> None:
    page.goto(_address(server))
    page.get_by_label("Show").select_option("Won: student right, baseline wrong")
    page.wait_for_url("**queue=won**")
    expect(page.get_by_role("navigation", name="Images").get_by_role("listitem").first).to_contain_text(
        "bckd-0 finds 1 object that base-0 misses"
    )
    table = page.get_by_role("region", name="On all pictures")
    expect(table.get_by_role("row").filter(has_text="base-0")).to_contain_text("4")
    page.get_by_label("Class", exact=True).select_option("platelets")
    page.wait_for_url("**only=platelets**")
    page.get_by_label("Show").select_option("Most mistakes")
    expect(page.get_by_role("navigation", name="Images").get_by_role("listitem")).to_have_count(2)


def test_all_panes_zoom_together(page: Page, server: Server) -> None:
    page.goto(_address(server, "&image=103"))
    panes = page.locator(".panes svg")
    expect(panes).to_have_count(4)
    page.get_by_role("button", name="Zoom in").click()
    views = {panes.nth(i).get_attribute("viewBox") for i in range(4)}
    assert len(views) == 1
    assert views != {"0 0 160 160"}
    page.get_by_role("button", name="Whole").click()
    expect(panes.first).to_have_attribute("viewBox", "0 0 160 160")


def test_boxes_can_be_left_out_and_read_as_a_table(page: Page, server: Server) -> None:
    page.goto(_address(server, "&image=105&queue=mistakes"))
    student = page.get_by_role("img", name="Student: bckd-0")
    expect(student).to_contain_text("cells 0.80 ✗ nothing there")
    page.get_by_text("Wrong", exact=True).first.click()
    expect(student).not_to_contain_text("nothing there")
    page.get_by_text("As a table", exact=True).click()
    table = page.get_by_role("region", name="Detections on this image")
    expect(table.get_by_role("row").filter(has_text="wrong (background)").first).to_contain_text("2, 130, 30, 158")


def test_a_job_shows_its_own_images(page: Page, server: Server) -> None:
    page.goto(f"/jobs/{server.story['bckd'][1]}")
    page.get_by_role("tab", name="Images").click()
    page.wait_for_url("**tab=images**")
    expect(page.get_by_role("img", name="Teacher: teacher")).to_be_visible()
    expect(page.get_by_role("navigation", name="Images").get_by_role("listitem")).to_have_count(2)


def test_a_job_without_pictures_says_why(page: Page, server: Server) -> None:
    page.goto(f"/jobs/{server.story['failed']}?tab=images")
    expect(page.get_by_text("No images yet")).to_be_visible()
