"""Coming in and leaving."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.ui.story import Server


def test_a_link_signs_in_and_its_token_leaves_the_address(page: Page, server: Server) -> None:
    assert "token" not in page.url
    page.go_back()
    assert server.token not in page.url


def test_a_token_signs_in_at_the_address_that_was_asked_for(visitor: Page, server: Server) -> None:
    visitor.goto("/jobs?q=state:failed")
    visitor.get_by_label("API token").fill(server.token)
    visitor.get_by_role("button", name="Sign in").click()
    expect(visitor.get_by_role("heading", name="Jobs")).to_be_visible()
    expect(visitor.get_by_role("link", name="broken run")).to_be_visible()
    assert visitor.url.endswith("/jobs?q=state:failed")


def test_a_wrong_token_is_refused_with_the_reason(visitor: Page) -> None:
    visitor.goto("/")
    visitor.get_by_label("API token").fill("bcd_wrong")
    visitor.get_by_role("button", name="Sign in").click()
    expect(visitor.get_by_text("token", exact=False).last).to_be_visible()
    expect(visitor.get_by_role("heading", name="Sign in to bcd")).to_be_visible()


def test_who_leaves_is_asked_for_a_token_again(page: Page) -> None:
    page.get_by_role("button", name="Signed in as admin").click()
    page.get_by_role("menuitem", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to bcd")).to_be_visible()
    page.goto("/jobs")
    expect(page.get_by_role("heading", name="Sign in to bcd")).to_be_visible()


def test_a_session_that_ends_meanwhile_asks_for_a_token_at_the_same_address(page: Page) -> None:
    page.goto("/jobs")
    page.get_by_role("link", name="waiting 229").wait_for()
    page.context.clear_cookies()
    page.get_by_role("button", name="Submitted").click()
    expect(page.get_by_role("heading", name="Sign in to bcd")).to_be_visible()
    assert "/jobs" in page.url


@pytest.mark.parametrize("path", ["/jobs", "/compare", "/new", "/cluster", "/settings"])
def test_every_page_has_an_address_of_its_own(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator("main h1")).to_be_visible()
    expect(page.get_by_role("navigation", name="Pages").locator("[aria-current=page]")).to_have_count(1)


def test_keys_go_to_pages(page: Page) -> None:
    page.keyboard.press("g")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Filter")).to_be_focused()
    page.get_by_role("heading", name="Jobs").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()


def test_colours_are_chosen_and_kept(page: Page) -> None:
    html = page.locator("html")
    page.get_by_role("button", name="Colours: auto").click()
    page.get_by_role("button", name="Colours: light").click()
    expect(html).to_have_attribute("data-mantine-color-scheme", "dark")
    page.reload()
    expect(html).to_have_attribute("data-mantine-color-scheme", "dark")
