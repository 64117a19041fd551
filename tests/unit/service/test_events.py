"""The event stream: in order, resumable, none missed, none twice."""

from __future__ import annotations

import json
from itertools import chain, repeat
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.events import follow, service
from service.events.tip import Tip
from service.settings import Settings
from tests.helpers.api import start, submit


def read(client: TestClient, rounds: int = 1, *, headers: dict[str, str] | None = None, **params: Any) -> list[Any]:
    """The events of a stream that the server closes after some rounds of polling: (SSE id, data)."""
    client.app.state.closing = chain(repeat(False, rounds), repeat(True)).__next__
    response = client.get("/api/v1/events", params=params, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            events.append((int(fields["id"]), json.loads(fields["data"])))
    return events


def test_events_carry_their_id_and_all_their_fields(client: TestClient) -> None:
    job = submit(client)
    ((id, data),) = read(client)
    assert data.keys() == {"id", "time", "type", "job_id", "actor", "data"}
    assert (id, data["type"], data["job_id"], data["actor"]) == (data["id"], "job.state", job["id"], "user")
    assert data["data"] == {"from": None, "to": "queued", "cause": None, "by": "admin"}


def test_a_client_that_reconnects_misses_nothing_and_gets_nothing_twice(client: TestClient) -> None:
    for _ in range(5):
        submit(client)
    whole = [id for id, _ in read(client)]
    assert whole == sorted(set(whole))
    assert len(whole) == 5
    for cut in range(5):
        again = read(client, headers={"Last-Event-ID": str(whole[cut])})
        assert [id for id, _ in again] == whole[cut + 1 :]
        assert [id for id, _ in read(client, after=whole[cut])] == whole[cut + 1 :]


def test_the_place_of_a_reconnecting_client_wins_over_the_address(client: TestClient) -> None:
    for _ in range(3):
        submit(client)
    whole = [id for id, _ in read(client)]
    assert [id for id, _ in read(client, after=0, headers={"Last-Event-ID": str(whole[1])})] == whole[2:]


def test_a_stream_can_be_limited_to_jobs(client: TestClient) -> None:
    a, b, _ = (submit(client)["id"] for _ in range(3))
    assert [data["job_id"] for _, data in read(client, job=[a, b])] == [a, b]


def test_minus_one_starts_with_what_comes_next(client: TestClient) -> None:
    submit(client)
    assert read(client, after=-1) == []


def test_more_events_than_one_reading_holds_all_arrive(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BATCH", 2)
    for _ in range(5):
        submit(client)
    assert len(read(client, rounds=3)) == 5


def test_metrics_come_as_one_event_for_each_batch_with_the_latest_values(client: TestClient) -> None:
    job, worker = start(client)
    worker.send(*(worker.metric(step, loss=1.0 / step) for step in (1, 2, 4)))
    metrics = [data["data"] for _, data in read(client, job=job["id"]) if data["type"] == "job.metrics"]
    assert metrics == [{"step": 4, "values": {"loss": 0.25}}]


def test_a_silent_stream_is_kept_alive_by_comments(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PING_SECONDS", 0.0)
    client.app.state.closing = chain(repeat(False, 2), repeat(True)).__next__
    assert client.get("/api/v1/events").text == ": ping\nid: 0\n\n: ping\nid: 0\n\n"


def test_a_stream_follows_the_topics_that_it_was_asked_for(client: TestClient) -> None:
    (a, one), (b, two) = start(client), start(client)
    for worker in (one, two):
        worker.send(worker.metric(1, loss=1.0), worker.evaluation(30.0))

    def followed(*topics: str, **params: Any) -> list[tuple[str, str]]:
        whole = read(client, topics=topics, **params)
        assert [id for id, _ in whole] == sorted(id for id, _ in whole)
        return [(data["type"].removeprefix("job."), data["job_id"]) for _, data in whole]

    states = [("state", id) for id in (a["id"],) * 3 + (b["id"],) * 3]
    assert followed("job.state") == states
    assert followed(f"job.metrics:{b['id']}") == [("metrics", b["id"])]
    assert followed(f"job.state,job.metrics:{b['id']}") == [*states, ("metrics", b["id"])]
    assert followed("job.evaluation", f"job.metrics:{a['id']},job.metrics:{b['id']}") == [
        ("metrics", a["id"]), ("evaluation", a["id"]), ("metrics", b["id"]), ("evaluation", b["id"]),
    ]  # fmt: skip
    everything_of_b = [event for event in followed() if event[1] == b["id"]]
    assert followed(f"*:{b['id']}") == followed(job=b["id"]) == everything_of_b
    assert followed("job.changed") == []


@pytest.mark.parametrize("topics", ["state", "job.nope", "*", "job.state:", ":x", "job.state," * 251 + "job.state"])
def test_a_topic_that_there_is_not_is_refused(client: TestClient, topics: str) -> None:
    response = client.get("/api/v1/events", params={"topics": topics})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "?topics")


def test_a_topic_of_an_unknown_job_is_404(client: TestClient) -> None:
    assert client.get("/api/v1/events", params={"topics": "job.state:job_nope"}).status_code == 404


def test_what_a_stream_does_not_follow_is_passed_over_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comment says how far it looked, so a client that reconnects does not have it looked at again."""
    monkeypatch.setattr(follow, "PING_SECONDS", 0.0)
    _, worker = start(client)
    worker.send(worker.metric(1, loss=1.0))
    asked: list[tuple[int, int]] = []
    between = service.between
    monkeypatch.setattr(
        service, "between", lambda session, me, after, upto, *rest, **more: (
            asked.append((after, upto)) or between(session, me, after, upto, *rest, **more)
        ),
    )  # fmt: skip
    client.app.state.closing = chain(repeat(False, 5), repeat(True)).__next__
    text = client.get("/api/v1/events", params={"topics": "job.changed"}).text
    with client.app.state.db.read() as session:
        newest = service.newest_id(session)
    assert text == f": ping\nid: {newest}\n\n" * 5
    assert asked == [(0, newest)]


def test_a_place_is_shared_by_all_streams_until_it_is_too_old(settings: Settings, client: TestClient) -> None:
    tip = Tip(client.app.state.db, seconds=3600)
    assert tip.place() == 0
    submit(client)
    assert tip.place() == 0
    assert tip.place(fresh=True) == tip.place() > 0
    eager = Tip(client.app.state.db, seconds=0)
    submit(client)
    assert eager.place() > tip.place()


@pytest.mark.parametrize(
    ("headers", "params"),
    [
        ({"Last-Event-ID": "x"}, {}),
        ({"Last-Event-ID": "-1"}, {}),
        ({"Last-Event-ID": "9" * 20}, {}),
        ({}, {"after": -2}),
    ],
)
def test_a_bad_place_is_refused_before_the_stream_begins(
    client: TestClient, headers: dict[str, str], params: dict[str, Any]
) -> None:
    response = client.get("/api/v1/events", headers=headers, params=params)
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")


def test_an_unknown_job_is_404(client: TestClient) -> None:
    assert client.get("/api/v1/events", params={"job": "job_nope"}).status_code == 404


@pytest.mark.parametrize(
    ("newest_first", "limit"),
    [
        ([], None),
        ([(7, 100.0)], None),
        ([(7, 100.0), (6, 99.9)], None),
        ([(7, 100.0), (5, 99.9)], 5),
        ([(9, 100.0), (8, 99.9), (6, 99.0), (4, 98.0)], 4),
        ([(9, 100.0), (8, 94.0), (5, 93.0)], None),
        ([(9, 100.0), (7, 94.0), (5, 93.0)], 7),
    ],
)
def test_readers_wait_at_young_holes_only(newest_first: list[tuple[int, float]], limit: int | None) -> None:
    assert service.settled_up_to(newest_first, now=100.0) == limit
