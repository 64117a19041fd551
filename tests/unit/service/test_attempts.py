"""Tickets and records: stored once, in order, by the newest attempt only, all of a batch or nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, func, select
from starlette.testclient import TestClient

from bcd.records import StateRecord
from service.attempts.outcome import Asked, decide
from service.models import Attempt, Event, JobState, LogLine, Point
from service.settings import Settings
from tests.helpers.api import (
    FakeWorker,
    claim,
    distilled_spec,
    finish,
    make_client,
    start,
    submit,
    tiny_spec,
)

STALE, GAP = "urn:bcd:stale-attempt", "urn:bcd:sequence-gap"


def _job(client: TestClient, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get(f"/api/v1/jobs/{job_id}").json()
    return job


def _count(client: TestClient, model: type) -> int:
    with client.app.state.db.read() as session:
        return session.scalar(select(func.count()).select_from(model))


# ------------------------------------------------------------------------------------------------- a whole run


def test_a_run_from_claim_to_result(client: TestClient) -> None:
    job = submit(client)
    worker = FakeWorker(client, *claim(client, job["id"]))
    ticket = worker.ticket().json()
    assert (ticket["job_id"], ticket["number"], ticket["epoch"], ticket["next_seq"]) == (job["id"], 1, 1, 1)
    assert (ticket["spec"], ticket["teacher"], ticket["resume"]) == (job["spec"], None, [])

    assert worker.send(worker.running()) == {"acked": 1, "cancel": False, "lease_seconds": 30.0}
    now = _job(client, job["id"])
    assert (now["state"], now["attempts"][0]["state"]) == ("running", "running")
    assert now["started_at"] is not None

    worker.send(
        worker.metric(1, loss=3.0, lr=0.1),
        worker.metric(2, loss=2.0, lr=0.2),
        worker.record("log", level="warning", text="slow disk"),
    )
    assert _job(client, job["id"])["step"] == 2
    worker.send(
        worker.artifact("result", "student.safetensors", 4, b"weights"),
        worker.evaluation(12.5),
        worker.ended("succeeded"),
    )
    done = _job(client, job["id"])
    assert (done["state"], done["cause"], done["evaluation"]["AP"]) == ("succeeded", None, 12.5)
    assert (done["attempts"][0]["state"], done["attempts"][0]["number"]) == ("succeeded", 1)

    series = client.get(f"/api/v1/jobs/{job['id']}/metrics").json()["series"]
    assert series["loss"] == {"steps": [1, 2], "values": [3.0, 2.0], "times": [1002.0, 1003.0]}
    some = client.get(f"/api/v1/jobs/{job['id']}/metrics", params={"key": "lr", "after_step": 1}).json()["series"]
    assert some == {"lr": {"steps": [2], "values": [0.2], "times": [1003.0]}}

    logs = client.get(f"/api/v1/jobs/{job['id']}/logs").json()
    assert [(line["level"], line["text"], line["attempt"]) for line in logs["lines"]] == [("warning", "slow disk", 1)]
    more = client.get(f"/api/v1/jobs/{job['id']}/logs", params={"after": logs["next"]}).json()
    assert more == {"lines": [], "next": logs["next"], "previous": None}

    (evaluation,) = client.get(f"/api/v1/jobs/{job['id']}/evaluations").json()["items"]
    assert (evaluation["name"], evaluation["protocol"], evaluation["results"]["per_class"]) == (
        "final",
        "p",
        {"0": 12.5},
    )


# ------------------------------------------------------------------------------------------- order and repeats


def test_a_batch_sent_twice_changes_nothing_the_second_time(client: TestClient) -> None:
    job, worker = start(client)
    batch = [worker.metric(1, loss=1.0), worker.record("log", text="once"), worker.evaluation(5.0, name="step-1")]
    assert worker.send(*batch) == worker.send(*batch)
    assert (_count(client, Point), _count(client, LogLine)) == (1, 1)
    assert len(client.get(f"/api/v1/jobs/{job['id']}/evaluations").json()["items"]) == 1


def test_a_batch_that_overlaps_what_is_known_stores_only_the_rest(client: TestClient) -> None:
    _, worker = start(client)
    lines = [worker.record("log", text=str(i)) for i in range(4)]
    worker.send(*lines[:2])
    assert worker.send(*lines)["acked"] == 5
    assert _count(client, LogLine) == 4


@pytest.mark.parametrize("missing", [0, 1])
def test_a_gap_is_refused_whole_and_names_what_is_expected(client: TestClient, missing: int) -> None:
    _, worker = start(client)
    lines = [worker.record("log", text=str(i)) for i in range(3)]
    expected = lines.pop(missing)["seq"]
    response = worker.post(*lines)
    assert (response.status_code, response.json()["type"], response.json()["expected_seq"]) == (409, GAP, expected)
    assert _count(client, LogLine) == 0


def test_an_empty_batch_is_a_heartbeat_that_extends_the_lease(client: TestClient) -> None:
    _, worker = start(client)
    with client.app.state.db.write() as session:
        session.get(Attempt, worker.attempt_id).lease_until = 5.0
    assert worker.send()["acked"] == 1
    with client.app.state.db.read() as session:
        assert session.get(Attempt, worker.attempt_id).lease_until > 5.0


def test_a_refused_batch_does_not_extend_the_lease(client: TestClient) -> None:
    _, worker = start(client)
    with client.app.state.db.write() as session:
        session.get(Attempt, worker.attempt_id).lease_until = 5.0
    assert worker.post(epoch=99).status_code == 409
    with client.app.state.db.read() as session:
        assert session.get(Attempt, worker.attempt_id).lease_until == 5.0


def test_a_run_of_epochs_tells_its_length_once_it_has_read_its_data(client: TestClient) -> None:
    files = {"type": "voc", "root": "/data", "classes": ["a"]}
    job = submit(client, tiny_spec(data=files, schedule={"epochs": 3}))
    assert job["total_steps"] == 0
    worker = FakeWorker(client, *claim(client, job["id"]))
    worker.send(worker.running(), worker.metric(0, total_steps=750.0), worker.metric(20, loss=1.0))
    now = _job(client, job["id"])
    assert (now["step"], now["total_steps"]) == (20, 750)


def test_a_retried_step_overwrites_and_leaves_no_duplicate(client: TestClient) -> None:
    job, first = start(client)
    first.send(*(first.metric(step, loss=1.0) for step in (1, 2, 3)))
    first.send(first.ended("failed", cause="node lost", retryable=True))
    second = FakeWorker(client, *claim(client, job["id"]))
    second.send(second.running(), second.metric(2, loss=9.0))
    assert _job(client, job["id"])["step"] == 2
    second.send(second.metric(3, loss=9.0), second.metric(4, loss=9.0))
    series = client.get(f"/api/v1/jobs/{job['id']}/metrics").json()["series"]["loss"]
    assert (series["steps"], series["values"]) == ([1, 2, 3, 4], [1.0, 9.0, 9.0, 9.0])


def test_two_hundred_metric_records_are_a_few_statements(client: TestClient) -> None:
    _, worker = start(client)
    statements: list[str] = []
    engine = client.app.state.db.engine

    @event.listens_for(engine, "before_cursor_execute")
    def _count_statement(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    worker.send(*(worker.metric(step, loss=1.0, lr=0.1, grad_norm=2.0) for step in range(200)))
    assert _count(client, Point) == 600
    assert len([s for s in statements if s.startswith("INSERT INTO points")]) == 1
    assert len(statements) < 15


# --------------------------------------------------------------------------------------------------- fencing


def test_an_older_attempt_is_refused_everything(client: TestClient) -> None:
    job, first = start(client)
    first.send(first.ended("failed", cause="x", retryable=True))
    second = FakeWorker(client, *claim(client, job["id"]))
    assert second.ticket().json()["number"] == 2
    for response in (first.ticket(), first.post(), first.post(first.metric(1, loss=0.0))):
        assert (response.status_code, response.json()["type"]) == (409, STALE)
    assert _count(client, Point) == 0


def test_an_attempt_that_was_given_up_is_refused_before_a_new_one_exists(client: TestClient) -> None:
    _, worker = start(client)
    with client.app.state.db.write() as session:
        session.get(Attempt, worker.attempt_id).state = "lost"
    assert worker.post(worker.metric(1, loss=0.0)).json()["type"] == STALE


def test_a_wrong_epoch_is_stale(client: TestClient) -> None:
    _, worker = start(client)
    for epoch in (0, 2, 10**30):
        assert worker.post(epoch=epoch).json()["type"] == STALE


def test_the_last_batch_may_come_twice_but_nothing_after_it(client: TestClient) -> None:
    _, worker = start(client)
    last = worker.ended("succeeded")
    assert worker.send(last) == worker.send(last)
    assert worker.post().json()["type"] == STALE
    assert worker.post(worker.metric(9, loss=1.0)).json()["type"] == STALE


# ----------------------------------------------------------------------------------------------- how it ends


def test_a_late_success_beats_the_cancellation(client: TestClient) -> None:
    job, worker = start(client)
    client.post(f"/api/v1/jobs/{job['id']}/cancel")
    worker.send(worker.ended("succeeded"))
    assert _job(client, job["id"])["state"] == "succeeded"


def test_a_cancelled_run_ends_cancelled_and_fails_who_waits(client: TestClient) -> None:
    job, worker = start(client)
    student = submit(client, distilled_spec(job["id"]))["id"]
    client.post(f"/api/v1/jobs/{job['id']}/cancel")
    worker.send(worker.ended("cancelled"))
    assert _job(client, job["id"])["state"] == "cancelled"
    assert _job(client, student)["state"] == "failed"


def test_a_job_that_never_said_running_can_succeed_in_one_batch(client: TestClient) -> None:
    job = submit(client)
    worker = FakeWorker(client, *claim(client, job["id"]))
    worker.send(worker.ended("succeeded"))
    assert _job(client, job["id"])["state"] == "succeeded"
    assert _job(client, job["id"])["started_at"] is not None


def test_a_failure_of_the_job_is_final_and_keeps_cause_and_traceback(client: TestClient) -> None:
    job, worker = start(client)
    worker.send(worker.ended("failed", cause="loss is not finite", traceback="Traceback ..."))
    now = _job(client, job["id"])
    assert (now["state"], now["cause"]) == ("failed", "loss is not finite")
    assert now["attempts"][0]["traceback"] == "Traceback ..."
    assert "Traceback" not in client.get("/api/v1/jobs").text


def test_infrastructure_faults_are_retried_until_no_attempt_is_left(settings: Settings) -> None:
    with make_client(replace(settings, max_attempts=2)) as client:
        job = submit(client)
        for state in ("queued", "failed"):
            worker = FakeWorker(client, *claim(client, job["id"]))
            worker.send(worker.running(), worker.ended("failed", cause="out of memory on node 3", retryable=True))
            now = _job(client, job["id"])
            assert now["state"] == state
            assert "out of memory on node 3" in now["cause"]
        assert [attempt["state"] for attempt in now["attempts"]] == ["failed", "failed"]


def test_an_attempt_that_stored_a_checkpoint_does_not_use_up_a_retry(settings: Settings) -> None:
    with make_client(replace(settings, max_attempts=2)) as client:
        job = submit(client)
        for step in range(1, 5):
            worker = FakeWorker(client, *claim(client, job["id"]))
            worker.send(
                worker.running(),
                worker.artifact("checkpoint", f"step-{step}", step, b"ckpt %d" % step),
                worker.ended("failed", cause="disk full", retryable=True),
            )
            assert _job(client, job["id"])["state"] == "queued"


@pytest.mark.parametrize(
    ("record", "asked", "fruitless", "expected"),
    [
        ({"state": "succeeded"}, None, 1, "succeeded"),
        ({"state": "succeeded"}, "cancel", 1, "succeeded"),
        ({"state": "succeeded"}, "pause", 1, "succeeded"),
        ({"state": "cancelled"}, "cancel", 1, "cancelled"),
        ({"state": "cancelled"}, "pause", 1, "paused"),
        ({"state": "cancelled"}, "pause", 9, "paused"),
        ({"state": "cancelled"}, None, 1, "queued"),
        ({"state": "cancelled"}, None, 5, "failed"),
        ({"state": "failed"}, None, 1, "failed"),
        ({"state": "failed"}, "cancel", 1, "cancelled"),
        ({"state": "failed"}, "pause", 1, "failed"),
        ({"state": "failed", "retryable": True}, None, 4, "queued"),
        ({"state": "failed", "retryable": True}, None, 5, "failed"),
        ({"state": "failed", "retryable": True}, "cancel", 1, "cancelled"),
        ({"state": "failed", "retryable": True}, "pause", 1, "paused"),
    ],
)
def test_what_the_end_of_an_attempt_means(
    record: dict[str, Any], asked: Asked | None, fruitless: int, expected: str
) -> None:
    end = StateRecord(seq=1, time=0.0, **record)
    to, cause = decide(end, asked=asked, fruitless=fruitless, most=5, failures=1)
    assert to == JobState(expected)
    assert (cause is None) == (expected == "succeeded")


@pytest.mark.parametrize(("failures", "expected"), [(1, "queued"), (2, "queued"), (3, "failed")])
def test_a_fault_of_the_job_is_tried_again_as_often_as_was_asked_for(failures: int, expected: str) -> None:
    end = StateRecord(seq=1, time=0.0, state="failed", cause="loss is NaN")
    to, _ = decide(end, asked=None, fruitless=99, most=5, failures=failures, retries=2)
    assert to == JobState(expected)


# --------------------------------------------------------------------------------------- teacher, checkpoints


def test_a_student_is_released_by_its_teacher_and_gets_the_result(client: TestClient) -> None:
    teacher, worker = start(client)
    student = submit(client, distilled_spec(teacher["id"]))
    worker.send(worker.artifact("result", "student", 4, b"teacher weights"), worker.ended("succeeded"))
    assert _job(client, student["id"])["state"] == "queued"
    ticket = FakeWorker(client, *claim(client, student["id"])).ticket().json()
    assert ticket["teacher"]["size"] == len(b"teacher weights")
    assert ticket["teacher"]["step"] == 4


def test_a_retry_resumes_from_the_newest_three_checkpoints_and_older_files_are_gone(client: TestClient) -> None:
    job, worker = start(client)
    storage = client.app.state.settings.storage
    records = [worker.artifact("checkpoint", f"step-{i}", i, b"ckpt %d" % i) for i in range(1, 6)]
    for record in records:
        worker.send(record)
    assert [(storage / record["key"]).exists() for record in records] == [False, False, True, True, True]
    names = [row["name"] for row in client.get(f"/api/v1/jobs/{job['id']}/artifacts").json()["items"]]
    assert names == ["step-3", "step-4", "step-5"]
    worker.send(worker.ended("failed", cause="x", retryable=True))
    ticket = FakeWorker(client, *claim(client, job["id"])).ticket().json()
    assert [(one["step"], one["key"]) for one in ticket["resume"]] == [
        (step, records[step - 1]["key"]) for step in (5, 4, 3)
    ]


def test_a_file_that_another_artifact_names_is_kept(client: TestClient) -> None:
    _, other = start(client)
    shared = other.artifact("checkpoint", "step-1", 1, b"same content")
    other.send(shared)
    _, worker = start(client)
    worker.send(*(worker.artifact("checkpoint", f"step-{i}", i, b"same content") for i in range(1, 6)))
    assert (client.app.state.settings.storage / shared["key"]).exists()


def test_files_stay_when_the_batch_is_refused(client: TestClient) -> None:
    _, worker = start(client)
    kept = [worker.artifact("checkpoint", f"step-{i}", i, b"%d" % i) for i in range(3)]
    worker.send(*kept)
    more = [worker.artifact("checkpoint", f"step-{i}", i, b"%d" % i) for i in range(3, 6)]
    worker.seq += 1
    assert worker.post(*more, worker.record("log", text="gap before me")).status_code == 409
    assert all((client.app.state.settings.storage / record["key"]).exists() for record in kept)


def test_an_artifact_written_again_replaces_the_earlier_one(client: TestClient) -> None:
    job, worker = start(client)
    first = worker.artifact("result", "student", 4, b"one")
    second = worker.artifact("result", "student", 4, b"two")
    worker.send(first)
    (before,) = client.get(f"/api/v1/jobs/{job['id']}/artifacts").json()["items"]
    worker.send(second)
    (after,) = client.get(f"/api/v1/jobs/{job['id']}/artifacts").json()["items"]
    assert (after["id"], after["sha256"]) == (before["id"], second["sha256"])
    assert not (client.app.state.settings.storage / first["key"]).exists()


# ------------------------------------------------------------------------------------------------ bad records


@pytest.mark.parametrize(
    ("kind", "fields", "word"),
    [
        ("metric", {"step": 2**31, "values": {"loss": 1.0}}, "larger"),
        ("metric", {"step": 1, "values": {"loss": "high"}}, "/records/0"),
        ("metric", {"step": -1, "values": {}}, "/records/0"),
        ("artifact", {"type": "result", "name": "../x", "step": 1, "sha256": "0" * 64, "size": 1,
                      "key": "objects/00/" + "0" * 64}, "/records/0"),
        ("artifact", {"type": "result", "name": "x", "step": 1, "sha256": "1" * 64, "size": 1,
                      "key": "objects/00/" + "0" * 64}, "key"),
        ("artifact", {"type": "result", "name": "x", "step": 1, "sha256": "0" * 64, "size": 2**63,
                      "key": "objects/00/" + "0" * 64}, "size"),
        ("state", {"state": "paused"}, "/records/0"),
        ("dance", {}, "/records/0"),
    ],
)  # fmt: skip
def test_a_bad_record_is_refused_by_name_and_stores_nothing(
    client: TestClient, kind: str, fields: dict[str, Any], word: str
) -> None:
    _, worker = start(client)
    response = worker.post(worker.record(kind, **fields), worker.record("log", text="behind"))
    assert response.status_code == 422
    assert word in response.json()["detail"]
    assert _count(client, LogLine) == 0


def test_nothing_may_follow_the_terminal_state(client: TestClient) -> None:
    job, worker = start(client)
    assert worker.post(worker.ended("succeeded"), worker.record("log", text="late")).status_code == 422
    assert _job(client, job["id"])["state"] == "running"


def test_log_text_that_no_database_can_hold_is_cleaned_not_refused(client: TestClient) -> None:
    job, worker = start(client)
    worker.send(worker.record("log", text="a\0b\ud800c"))
    (line,) = client.get(f"/api/v1/jobs/{job['id']}/logs").json()["lines"]
    assert line["text"] == "a\ufffdb\ufffdc"


def test_the_events_of_a_run_tell_its_story_in_order(client: TestClient) -> None:
    job_id = finish(client, tiny_spec(), 20.0)
    kinds = [event["type"] for event in client.get(f"/api/v1/jobs/{job_id}/events").json()["items"]]
    assert kinds == ["job.state", "job.state", "job.state", "job.artifact", "job.evaluation", "job.state"]


def test_what_a_run_rests_on_is_an_event_of_its_job(client: TestClient) -> None:
    job, worker = start(client)
    worker.send(worker.record("facts", values={"git_commit": "f" * 40, "data_version": "d"}))
    with client.app.state.db.read() as session:
        (told,) = session.scalars(select(Event).where(Event.job_id == job["id"], Event.type == "job.facts"))
    assert told.data == {"attempt": 1, "values": {"git_commit": "f" * 40, "data_version": "d"}}
