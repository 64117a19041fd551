"""The list of jobs: its pages, filters, orders, rows and counts."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.helpers.api import start, submit

JOBS = "/api/v1/jobs"


def test_pages_hold_every_job_once_newest_first_also_when_new_ones_come(client: TestClient) -> None:
    made = [submit(client)["id"] for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = client.get(JOBS, params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        submit(client)
    assert seen == made[::-1]


def test_a_page_that_ends_the_list_exactly_has_no_next(client: TestClient) -> None:
    for _ in range(2):
        submit(client)
    assert client.get(JOBS, params={"limit": 2}).json()["next_cursor"] is None


@pytest.mark.parametrize("cursor", ["x", "AAAA", "bnVsbA", "WzEsMl0", "ü", "a" * 400])
def test_a_foreign_cursor_is_refused(client: TestClient, cursor: str) -> None:
    response = client.get(JOBS, params={"cursor": cursor})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "?cursor")


def test_the_list_can_be_filtered_by_states(client: TestClient) -> None:
    queued = submit(client)["id"]
    cancelled = submit(client)["id"]
    client.post(f"{JOBS}/{cancelled}/cancel")
    running, _ = start(client)

    def ids(*states: str) -> set[str]:
        return {job["id"] for job in client.get(JOBS, params={"state": states}).json()["items"]}

    assert ids("queued") == {queued}
    assert ids("cancelled", "running") == {cancelled, running["id"]}
