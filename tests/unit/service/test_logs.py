"""A job's log: pages in both directions, by attempt, level and text, and as a stream that ends with the job."""

from __future__ import annotations

import json
from itertools import chain, repeat
from typing import Any

import pytest
from sqlalchemy import insert, text
from starlette.testclient import TestClient

from service.logs import service
from service.models import LogLine
from tests.helpers.api import FakeWorker, claim, start


@pytest.fixture
def job(client: TestClient) -> dict[str, Any]:
    """A job of two attempts: lines 0 to 9 by the first, 10 to 14 by the second, in all levels."""
    made, worker = start(client)
    levels = ["debug", "info", "warning", "error", "info"]
    worker.send(*(worker.record("log", level=levels[i % 5], text=f"line {i}") for i in range(10)))
    worker.send(worker.ended("failed", cause="x", retryable=True))
    worker = FakeWorker(client, *claim(client, made["id"]))
    worker.send(worker.running(), *(worker.record("log", level="info", text=f"line {i}") for i in range(10, 15)))
    return {**made, "worker": worker}


def logs(client: TestClient, job: dict[str, Any], **params: Any) -> dict[str, Any]:
    response = client.get(f"/api/v1/jobs/{job['id']}/logs", params=params)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


def numbers(page: dict[str, Any]) -> list[int]:
    return [int(line["text"].split()[1]) for line in page["lines"]]


def test_forward_pages_hold_every_line_once(client: TestClient, job: dict[str, Any]) -> None:
    seen, after = [], 0
    while page := logs(client, job, after=after, limit=4):
        if not page["lines"]:
            break
        seen += numbers(page)
        after = page["next"]
    assert seen == list(range(15))


def test_backward_pages_from_the_tail_hold_every_line_once(client: TestClient, job: dict[str, Any]) -> None:
    page = logs(client, job, tail=4)
    seen = [numbers(page)]
    while page["previous"] is not None:
        page = logs(client, job, before=page["previous"], limit=4)
        seen.insert(0, numbers(page))
    assert [number for one in seen for number in one] == list(range(15))
    assert [len(one) for one in seen] == [3, 4, 4, 4]


def test_a_tail_can_be_followed_from_its_end(client: TestClient, job: dict[str, Any]) -> None:
    end = logs(client, job, tail=2)["next"]
    assert logs(client, job, after=end)["lines"] == []
    job["worker"].send(job["worker"].record("log", text="line 15"))
    assert numbers(logs(client, job, after=end)) == [15]


def test_lines_of_one_attempt_of_a_level_or_with_a_text(client: TestClient, job: dict[str, Any]) -> None:
    assert numbers(logs(client, job, attempt=2)) == list(range(10, 15))
    assert numbers(logs(client, job, level="warning")) == [2, 3, 7, 8]
    assert numbers(logs(client, job, level="error", attempt=1)) == [3, 8]
    assert numbers(logs(client, job, q="LINE 1")) == [1, 10, 11, 12, 13, 14]
    assert numbers(logs(client, job, q="line 1", tail=2)) == [13, 14]
    assert numbers(logs(client, job, q="line 1", attempt=1, level="info")) == [1]


@pytest.mark.parametrize(
    ("q", "found"),
    [("100%", ["at 100% now"]), ("a_b", ["a_b"]), ("\\", ["c:\\d"]), ("/x", ["/x"]), ("'", ["it's"]), ("Ä", ["Ä"])],
)
def test_a_search_means_its_text_literally(client: TestClient, q: str, found: list[str]) -> None:
    made, worker = start(client)
    texts = ["at 100% now", "1000", "a_b", "axb", "c:\\d", "/x", "it's", "Ä", "plain"]
    worker.send(*(worker.record("log", text=one) for one in texts))
    assert [line["text"] for line in logs(client, made, q=q)["lines"]] == found


@pytest.mark.parametrize(
    "params",
    [{"level": "loud"}, {"attempt": 0}, {"tail": 0}, {"tail": 5001}, {"q": "x" * 201}, {"after": 1, "tail": 2}],
)
def test_a_question_that_makes_no_sense_is_refused(client: TestClient, job: dict[str, Any], params: Any) -> None:
    assert client.get(f"/api/v1/jobs/{job['id']}/logs", params=params).status_code == 422


def test_what_is_not_there_is_404(client: TestClient, job: dict[str, Any]) -> None:
    for path in (f"{job['id']}/logs", f"{job['id']}/logs/stream"):
        assert client.get(f"/api/v1/jobs/{path}", params={"attempt": 7}).status_code == 404
    for path in ("nope/logs", "nope/logs/stream"):
        assert client.get(f"/api/v1/jobs/{path}").status_code == 404


# -------------------------------------------------------------------------------------------------- the stream


def stream(
    client: TestClient, job: dict[str, Any], *, rounds: int | None = None, last: str | None = None, **params: Any
) -> list[tuple[str | None, dict[str, Any]]]:
    """(event name or id, data) until the service ends the stream, or closes after some rounds of reading."""
    if rounds is not None:
        client.app.state.closing = chain(repeat(False, rounds), repeat(True)).__next__
    headers = {"Last-Event-ID": last} if last is not None else {}
    response = client.get(f"/api/v1/jobs/{job['id']}/logs/stream", params=params, headers=headers)
    assert response.status_code == 200, response.text
    out = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            out.append((fields.get("event") or fields.get("id"), json.loads(fields["data"])))
    return out


def test_the_stream_of_an_ended_job_gives_all_lines_and_ends(client: TestClient, job: dict[str, Any]) -> None:
    job["worker"].send(job["worker"].ended("succeeded"))
    *lines, end = stream(client, job)
    assert [data["text"] for _, data in lines] == [f"line {i}" for i in range(15)]
    assert [int(str(id)) for id, _ in lines] == [data["id"] for _, data in lines]
    assert end == ("end", {"state": "succeeded"})
    assert stream(client, job, last=str(lines[12][0])) == [*lines[13:], end]
    assert stream(client, job, after=lines[12][0]) == [*lines[13:], end]


def test_the_stream_of_a_running_job_stays_open(client: TestClient, job: dict[str, Any]) -> None:
    assert [data["text"] for _, data in stream(client, job, rounds=3, attempt=2)] == [
        f"line {i}" for i in range(10, 15)
    ]


def test_a_stream_of_some_lines_passes_over_the_others_once(
    client: TestClient, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BATCH", 2)
    job["worker"].send(job["worker"].ended("succeeded"))
    assert [data.get("text") for _, data in stream(client, job, level="warning")] == [
        "line 2", "line 3", "line 7", "line 8", None,
    ]  # fmt: skip
    with client.app.state.db.read() as session:
        news = service.news(session, service.Wanted(job["id"], text="nowhere"), after=0)
    assert (news.lines, news.place, news.ended) == ([], logs(client, job, tail=1)["next"], "succeeded")


@pytest.mark.parametrize("last", ["x", "-1", "9" * 20])
def test_a_bad_place_is_refused_before_the_stream_begins(client: TestClient, job: dict[str, Any], last: str) -> None:
    response = client.get(f"/api/v1/jobs/{job['id']}/logs/stream", headers={"Last-Event-ID": last})
    assert response.status_code == 422


# ------------------------------------------------------------------------------------------------------- size


def test_pages_of_a_long_log_are_read_along_an_index(client: TestClient, job: dict[str, Any]) -> None:
    """PostgreSQL would read a small table as a whole; that is ruled out for the question."""
    db = client.app.state.db
    rows = [
        {
            "job_id": job["id"],
            "attempt_id": job["worker"].attempt_id,
            "seq": i,
            "time": 0.0,
            "level": "info",
            "text": "x",
        }
        for i in range(5000)
    ]
    with db.write() as session:
        session.execute(insert(LogLine), rows)
    query = "SELECT id FROM log_lines WHERE job_id = 'x' AND id > 7 ORDER BY id LIMIT 100"
    with db.write() as session:
        if db.is_sqlite:
            plan = session.execute(text(f"EXPLAIN QUERY PLAN {query}")).all()
            assert "ix_log_lines_job_id_id (job_id=? AND id>?)" in str(plan)
            assert "TEMP B-TREE" not in str(plan)
        else:
            session.execute(text("ANALYZE log_lines"))
            session.execute(text("SET LOCAL enable_seqscan = off"))
            plan = session.execute(text(f"EXPLAIN {query}")).all()
            assert "log_lines" in str(plan)
            assert "Sort" not in str(plan)
    assert len(logs(client, job, tail=5000)["lines"]) == 5000
