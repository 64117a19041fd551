"""Users, projects, members, webhooks: what administrators do without the command line."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.ui.story import Server


def test_a_user_is_added_given_a_token_and_disabled(page: Page, server: Server) -> None:
    page.goto("/settings")
    page.get_by_label("Name of a new user").fill("nora")
    page.get_by_role("button", name="Add", exact=True).first.click()
    row = page.get_by_role("region", name="Users").get_by_role("row").filter(has_text="nora")
    expect(row).to_contain_text("enabled")
    row.get_by_role("button", name="A token for nora").click()
    secret = page.locator("code", has_text="bcd_").inner_text()
    headers = {"Authorization": f"Bearer {secret}"}
    assert server.voice.get("/api/v1/me", headers=headers).json()["user"] == "nora"
    row.get_by_role("button", name="Disable nora").click()
    expect(row).to_contain_text("disabled")
    assert server.voice.get("/api/v1/me", headers=headers).status_code == 401
    expect(page.get_by_role("button", name="Disable admin")).not_to_be_attached()  # nobody locks themselves out


def test_a_project_gets_members_and_a_webhook(page: Page, server: Server) -> None:
    server.voice.post("/api/v1/users", json={"name": "mia"})
    page.goto("/settings")
    page.get_by_label("Id of a new project").fill("night-runs")
    page.get_by_role("button", name="Add", exact=True).last.click()
    expect(page.get_by_label("Members and webhooks of")).to_have_value("night-runs")
    page.get_by_label("User who becomes a member").fill("mia")
    page.get_by_role("button", name="Add as editor").click()
    page.get_by_label("Role of mia").select_option("viewer")
    expect(page.get_by_label("Role of mia")).to_have_value("viewer")
    members = server.voice.get("/api/v1/projects/night-runs/members").json()["items"]
    assert {"user": "mia", "role": "viewer"} in members
    page.get_by_label("Address of a webhook").fill("https://example.org/hook")
    page.get_by_role("button", name="Add webhook").click()
    hooks = page.get_by_role("region", name="Webhooks of night-runs")
    expect(hooks).to_contain_text("https://example.org/hook")
    expect(page.get_by_text("it is not shown again")).to_be_visible()
    hooks.get_by_role("button", name="Remove https://example.org/hook").click()
    expect(page.get_by_text("No webhooks.")).to_be_visible()
    page.get_by_role("button", name="Take mia out").click()
    expect(page.get_by_label("Role of mia")).not_to_be_attached()


def test_what_is_refused_says_why(page: Page, faults: list[str]) -> None:
    faults.append("status of 422")
    page.goto("/settings")
    page.get_by_label("Name of a new user").fill("Not A Name")
    page.get_by_role("button", name="Add", exact=True).first.click()
    expect(page.get_by_role("alert")).to_contain_text("/name")
