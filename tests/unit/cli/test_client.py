"""The client: requests as the API wants them, faults as people need them, and a stream that survives."""

from __future__ import annotations

import hashlib
import itertools
import json
import time

import httpx
import pytest

from service.client import ApiError, Client, Event, ServiceUnavailable
from service.settings import Settings
from tests.unit.cli.helpers import client_of, job_json, stream


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_a_submission_carries_token_and_key():
    seen = []

    def answer(request):
        seen.append(request)
        return httpx.Response(201, json=job_json("job_1"))

    assert client_of(answer).submit({"name": "x"}, "my-key")["id"] == "job_1"
    assert seen[0].headers["Authorization"] == "Bearer the-token"
    assert seen[0].headers["Idempotency-Key"] == "my-key"
    assert json.loads(seen[0].content) == {"name": "x"}


def test_a_submission_whose_answer_got_lost_is_repeated_with_the_same_key():
    keys = []

    def answer(request):
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadError("connection reset")
        return httpx.Response(200, json=job_json("job_1"))

    assert client_of(answer).submit({"name": "x"})["id"] == "job_1"
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_a_submission_waits_for_a_database_that_is_away_for_a_moment():
    keys = []

    def answer(request):
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) < 3:
            return httpx.Response(503, json={"detail": "the database does not answer"}, headers={"Retry-After": "1"})
        return httpx.Response(201, json=job_json("job_1"))

    assert client_of(answer).submit({"name": "x"})["id"] == "job_1"
    assert keys == [keys[0]] * 3


def test_a_client_that_asks_too_often_waits_as_long_as_it_is_told(monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    answers = iter([("2",), ("7",), ()])

    def answer(request):
        told = next(answers)
        if told:
            return httpx.Response(429, json={"detail": "too many requests"}, headers={"Retry-After": told[0]})
        return httpx.Response(200, json=job_json("job_1"))

    assert client_of(answer).cancel("job_1")["id"] == "job_1"
    assert pauses == [2.0, 7.0]


def test_a_client_does_not_wait_for_ever(monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    busy = httpx.Response(429, json={"detail": "too many requests; try again in 40 s"}, headers={"Retry-After": "40"})
    with pytest.raises(ApiError, match="try again in 40 s"):
        client_of(lambda request: busy).job("job_1")
    assert pauses == [40.0]


def test_two_submissions_without_a_key_are_two_jobs():
    keys = []

    def answer(request):
        keys.append(request.headers["Idempotency-Key"])
        return httpx.Response(201, json=job_json())

    client = client_of(answer)
    client.submit({})
    client.submit({})
    assert keys[0] != keys[1]


def test_a_problem_is_told_with_each_pointer():
    problem = {
        "title": "Unprocessable Content",
        "detail": "the spec is not valid",
        "errors": [
            {"pointer": "/schedule/steps", "detail": "must be at least 1"},
            {"pointer": "", "detail": "methods need a teacher"},
        ],
    }
    with pytest.raises(ApiError) as caught:
        client_of(lambda request: httpx.Response(422, json=problem)).submit({})
    assert caught.value.is_bad_input
    assert str(caught.value).splitlines() == [
        "the spec is not valid",
        "  /schedule/steps: must be at least 1",
        "  /: methods need a teacher",
    ]


def test_a_fault_that_the_detail_already_tells_is_not_repeated():
    error = ApiError(422, {"detail": "not valid; /a: too short", "errors": [{"pointer": "/a", "detail": "too short"}]})
    assert error.lines() == ["not valid; /a: too short"]


def test_an_answer_that_is_no_problem_document_is_still_told():
    with pytest.raises(ApiError, match="HTTP 502") as caught:
        client_of(lambda request: httpx.Response(502, text="<html>bad gateway")).job("job_1")
    assert not caught.value.is_bad_input


def test_a_service_that_is_not_running_says_how_to_start_it():
    def answer(request):
        raise httpx.ConnectError("refused")

    with pytest.raises(ServiceUnavailable, match="start it with `bcd up`"):
        client_of(answer).jobs()


def test_a_home_that_was_never_started_says_how_to_start_it(tmp_path, monkeypatch):
    monkeypatch.delenv("BCD_URL", raising=False)
    with pytest.raises(ServiceUnavailable, match="bcd up --home"):
        Client.from_settings(Settings.load(tmp_path))


def test_the_token_of_this_machine_is_not_sent_to_another_one(tmp_path, monkeypatch):
    settings = Settings.load(tmp_path)
    settings.run.mkdir()
    settings.token_file.write_text("secret")
    monkeypatch.delenv("BCD_TOKEN", raising=False)
    monkeypatch.setenv("BCD_URL", "http://gpu.example:8765")
    with pytest.raises(ServiceUnavailable, match="set BCD_TOKEN"):
        Client.from_settings(settings)
    monkeypatch.setenv("BCD_URL", "http://127.0.0.1:9000")
    assert Client.from_settings(settings).url == "http://127.0.0.1:9000"


def test_another_program_at_the_address_is_told_from_the_service():
    with pytest.raises(ServiceUnavailable, match="something that is not bcd answers"):
        client_of(lambda request: httpx.Response(200, text="<html>hello")).jobs()


def test_an_id_with_slashes_stays_one_segment():
    paths = []

    def answer(request):
        paths.append(request.url.raw_path)
        return httpx.Response(200, json=job_json())

    client_of(answer).job("../x?y")
    assert paths == [b"/api/v1/jobs/..%2Fx%3Fy"]


def test_a_download_appears_only_with_the_right_hash(tmp_path):
    right = {
        "id": "art_1",
        "type": "result",
        "name": "s",
        "step": 1,
        "size": 4,
        "sha256": hashlib.sha256(b"data").hexdigest(),
    }
    client = client_of(lambda request: httpx.Response(200, content=b"data"))
    assert client.download(right, tmp_path / "good").read_bytes() == b"data"
    with pytest.raises(ServiceUnavailable, match="damaged"):
        client.download({**right, "sha256": "0" * 64}, tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_a_dropped_stream_is_resumed_after_the_last_event():
    asked = []

    def answer(request):
        asked.append((request.headers.get("Last-Event-ID"), request.url.params.get_list("job")))
        first = {"id": 7, "type": "job.metrics", "job_id": "job_a", "data": {"step": 20}}
        second = {"id": 9, "type": "job.state", "job_id": "job_b", "data": {"to": "running"}}
        return stream(first if len(asked) == 1 else second)

    events = client_of(answer).events(["job_a", "job_b"])
    seen = list(itertools.islice(events, 5))
    assert [event.type for event in seen] == ["stream.open", "job.metrics", "stream.poll", "stream.open", "job.state"]
    assert seen[1] == Event("job.metrics", "job_a", {"step": 20}, 7, None)
    assert asked == [(None, ["job_a", "job_b"]), ("7", ["job_a", "job_b"])]


def test_without_a_stream_the_caller_is_told_to_look():
    def answer(request):
        raise httpx.ConnectError("refused")

    types = [event.type for event in itertools.islice(client_of(answer).events(["job_a"]), 3)]
    assert types == ["stream.poll"] * 3


def test_a_refused_stream_is_an_error_and_not_a_reason_to_try_for_ever():
    client = client_of(lambda request: httpx.Response(401, json={"detail": "the API token is missing or wrong"}))
    with pytest.raises(ApiError, match="token"):
        next(client.events(["job_a"]))


def test_waiting_ends_when_all_jobs_have_ended_and_outlives_a_restart():
    looks = {"job_a": 0, "job_b": 0}
    streams = []

    def answer(request):
        if request.url.path.endswith("/events"):
            streams.append(1)
            if len(streams) == 1:
                raise httpx.ConnectError("refused")
            return stream({"id": len(streams), "type": "job.state", "job_id": "job_a", "data": {}})
        job_id = request.url.path.rsplit("/", 1)[1]
        looks[job_id] += 1
        if looks[job_id] == 2:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=job_json(job_id, state="succeeded" if looks[job_id] > 3 else "running"))

    seen = []
    jobs = client_of(answer).wait(["job_a", "job_b"], seen.append)
    assert {job["state"] for job in jobs.values()} == {"succeeded"}
    assert {event.job_id for event in seen if event.type == "job"} == {"job_a", "job_b"}


def test_waiting_gives_up_when_the_service_stays_away():
    looks = []

    def answer(request):
        looks.append(1)
        if len(looks) > 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=job_json())

    with pytest.raises(ServiceUnavailable):
        client_of(answer).wait(["job_a"], patience=0.0)


def test_waiting_for_an_unknown_job_is_an_error_at_once():
    client = client_of(lambda request: httpx.Response(404, json={"detail": "no job job_x"}))
    with pytest.raises(ApiError, match="no job job_x"):
        client.wait(["job_x"])


def test_many_jobs_share_one_stream_of_everything():
    asked = []

    def answer(request):
        asked.append(request.url.params.get_list("job"))
        foreign = {"id": 1, "type": "job.state", "job_id": "job_x", "data": {}}
        return stream(foreign, {"id": 2, "type": "job.state", "job_id": "job_60", "data": {}})

    events = client_of(answer).events([f"job_{i}" for i in range(80)])
    assert [event.job_id for event in itertools.islice(events, 2)] == [None, "job_60"]
    assert asked == [[]]
