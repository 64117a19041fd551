"""The outbox delivers every record once, in order, whatever the service and the disk do."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from workers.outbox import BATCH_BYTES, Outbox, read_records


@contextmanager
def outbox_at(path: Path, service: Any, **options: Any) -> Iterator[Outbox]:
    outbox = Outbox(path, service, send_every=0.005, longest_pause=0.02, **options)
    try:
        yield outbox
    finally:
        service.stale = True  # ends the thread of an outbox that a failing test left open
        outbox.close(5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work" / "outbox.jsonl"


def steps(service: Any) -> list[int]:
    return [record.step for record in service.records]


def test_delivers_records_in_order(path, service):
    with outbox_at(path, service) as outbox:
        for step in range(50):
            outbox.append("metric", step=step, values={"loss": 1.0 / (step + 1)})
        assert outbox.close(10)
    assert steps(service) == list(range(50))
    assert [record.seq for record in service.records] == list(range(1, 51))


def test_appending_does_not_wait_for_a_service_that_is_away_and_all_arrives_when_it_returns(path, service):
    service.away = True
    with outbox_at(path, service) as outbox:
        for step in range(100):
            outbox.append("metric", step=step, values={"loss": 1.0})
        assert outbox.pending == 100
        service.away = False
        service.wait_for(lambda: len(service.records) == 100)
        assert outbox.close(10)
    assert steps(service) == list(range(100))


def test_close_says_so_when_something_could_not_be_delivered(path, service):
    service.away = True
    with outbox_at(path, service) as outbox:
        outbox.append("log", text="hello")
        assert not outbox.close(0.05)


def test_a_lost_answer_leads_to_a_replay_and_not_to_a_duplicate(path, service):
    service.lose_answers = 3
    with outbox_at(path, service) as outbox:
        for step in range(20):
            outbox.append("metric", step=step, values={"loss": 1.0})
        assert outbox.close(10)
    assert steps(service) == list(range(20))


def test_rewinds_when_the_service_lost_its_newest_records(path, service):
    with outbox_at(path, service) as outbox:
        for step in range(10):
            outbox.append("metric", step=step, values={"loss": 1.0})
        service.wait_for(lambda: len(service.records) == 10)
        del service.records[4:]  # restored from an older copy
        outbox.append("metric", step=10, values={"loss": 1.0})
        assert outbox.close(10)
    assert steps(service) == list(range(11))


@pytest.mark.parametrize("seed", range(5))
def test_survives_random_outages_lost_answers_and_reopening(path, service, seed):
    rng = random.Random(seed)
    written = 0
    for _ in range(4):
        outbox = Outbox(path, service, next_seq=len(service.records) + 1, send_every=0.001, longest_pause=0.005)
        for _ in range(rng.randrange(1, 40)):
            service.away, service.lose_answers = rng.random() < 0.5, rng.randrange(2)
            outbox.append("metric", step=written, values={"loss": 0.5})
            written += 1
        service.away = True
        outbox.close(0.01)
        with path.open("ab") as file:
            file.write(b'{"kind":"metric","seq":9')  # the crash came in the middle of a line
    service.away = False
    with outbox_at(path, service, next_seq=len(service.records) + 1) as outbox:
        assert outbox.close(10)
    assert steps(service) == list(range(written))


def test_a_torn_last_line_is_dropped_and_its_number_used_again(path, service):
    service.away = True
    first = Outbox(path, service)
    first.append("log", text="whole")
    first.append("log", text="torn")
    first.close(0)
    path.write_bytes(path.read_bytes()[:-5])
    with outbox_at(path, service) as outbox:
        assert outbox.append("log", text="after the crash") == 2
    assert [record.text for record in read_records(path)] == ["whole", "after the crash"]


def test_numbers_go_on_after_those_the_service_has_even_if_the_file_is_gone(path, service):
    service.away = True
    with outbox_at(path, service, next_seq=8) as outbox:
        assert outbox.append("log", text="next") == 8


def test_a_stale_attempt_stops_sending(path, service):
    service.stale = True
    with outbox_at(path, service) as outbox:
        outbox.append("log", text="too late")
        assert outbox.stale.wait(10)
        assert not outbox.close(1)
    assert service.records == []


def test_the_service_cancels_through_the_answer_to_a_heartbeat(path, service):
    service.cancel = True
    with outbox_at(path, service) as outbox:
        assert outbox.cancel.wait(10)
    assert service.batches[0] == []


def test_heartbeats_go_on_while_there_is_nothing_to_say(path, service):
    service.lease_seconds = 0.03
    with outbox_at(path, service, lease_seconds=0.03):
        service.wait_for(lambda: len(service.batches) >= 5)
    assert all(batch == [] for batch in service.batches)


def test_one_refused_record_becomes_a_log_line_and_holds_up_no_other(path, service):
    service.refuse = lambda record: record.kind == "metric" and record.step == 7
    with outbox_at(path, service) as outbox:
        for step in range(12):
            outbox.append("metric", step=step, values={"loss": 1.0})
        assert outbox.close(10)
    kinds = [record.kind for record in service.records]
    assert kinds == ["metric"] * 7 + ["log"] + ["metric"] * 4
    assert "refused a metric record" in service.records[7].text


def test_a_malformed_record_is_refused_before_it_is_written(path, service):
    service.away = True
    with outbox_at(path, service) as outbox:
        with pytest.raises(ValidationError):
            outbox.append("metric", step=-1, values={})
        assert outbox.append("log", text="fine") == 1


def test_batches_stay_below_the_body_limit_of_the_service(path, service):
    service.away = True
    with outbox_at(path, service) as outbox:
        for _ in range(60):
            outbox.append("log", text="x" * 19_000)
        service.away = False
        assert outbox.close(20)
    sizes = [sum(len(record.model_dump_json()) for record in batch) for batch in service.batches]
    assert len(service.records) == 60
    assert max(sizes) <= BATCH_BYTES


def test_a_full_disk_is_reported_and_leaves_no_half_line(path, service, monkeypatch):
    service.away = True
    with outbox_at(path, service) as outbox:
        outbox.append("log", text="before")

        def full(_handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                outbox.append("state", state="running")
        assert outbox.append("log", text="after") == 2
    assert [record.text for record in read_records(path)] == ["before", "after"]


def test_a_record_that_was_taken_back_is_never_sent_and_its_number_serves_the_next(path, service, monkeypatch):
    service.away = True
    with outbox_at(path, service) as outbox:
        outbox.append("log", text="before")

        def full(_handle: int) -> None:
            service.away = False  # the line is complete in the file, and the service answers again
            service.wait_for(lambda: service.records)
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                outbox.append("evaluation", step=1, protocol="p", results={})
        outbox.append("log", text="after")
        assert outbox.close(10)
    assert [record.kind for record in service.records] == ["log", "log"]


def test_an_attempt_whose_folder_was_removed_learns_that_it_is_stale(path, service):
    service.away = True
    with outbox_at(path, service, lease_seconds=0.03) as outbox:
        outbox.append("log", text="never sent")
        path.unlink()
        service.stale, service.away = True, False
        assert outbox.stale.wait(10)


def test_many_threads_may_append(path, service):
    with outbox_at(path, service) as outbox:

        def write() -> None:
            for step in range(50):
                outbox.append("metric", step=step, values={"loss": 1.0})

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outbox.close(20)
    assert [record.seq for record in service.records] == list(range(1, 201))


def test_reading_starts_above_a_number_and_a_missing_file_is_empty(path, service):
    service.away = True
    with outbox_at(path, service) as outbox:
        for text in ("a", "b", "c"):
            outbox.append("log", text=text)
    assert [record.text for record in read_records(path, above=1)] == ["b", "c"]
    assert list(read_records(path.with_name("nothing"))) == []


def test_secrets_are_masked_before_they_reach_the_disk(path, service):
    secret = "bcd_" + "Ab3-" * 10 + "xyz"
    service.away = True
    with outbox_at(path, service) as outbox:
        outbox.append("log", text=f"GET /x with Bearer {secret}")
        outbox.append("state", state="failed", cause=f"{secret} was refused", traceback=f"token = '{secret}'")
        assert secret not in path.read_text()
        service.away = False
        assert outbox.close(20)
    assert [record.text for record in service.records[:1]] == ["GET /x with Bearer ***"]
    assert (service.records[1].cause, service.records[1].traceback) == ("*** was refused", "token = '***'")
