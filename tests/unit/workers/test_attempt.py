"""One attempt, from ticket to final record, with a training function that the test provides."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bcd.api import PROCESS_DIED, Cancelled, JobError
from bcd.records import StoredObject, Ticket
from bcd.storage import open_store
from workers.attempt import AttemptArgs, run_attempt

SPEC: dict[str, Any] = {
    "name": "test",
    "data": {"type": "digits-scenes-v1", "train_images": 8, "val_images": 4, "image_size": 64, "max_size": 40},
    "student": {"backbone": "tiny", "width": 8, "fpn_channels": 16, "stacked_convs": 1, "strides": [8, 16]},
    "schedule": {"steps": 4},
}


@pytest.fixture
def args(tmp_path: Path) -> AttemptArgs:
    return AttemptArgs(
        attempt_id="att_1",
        epoch=1,
        api_url="http://127.0.0.1:1",
        storage=str(tmp_path / "storage"),
        work=str(tmp_path / "work"),
        data_cache=str(tmp_path / "cache"),
        token="secret",
    )


def ticket(spec: dict[str, Any] = SPEC, **more: Any) -> Ticket:
    values = {"job_id": "job_1", "attempt_id": "att_1", "number": 1, "epoch": 1, "lease_seconds": 30.0}
    return Ticket(spec=spec, **{**values, **more})


def train(spec, *, workdir, sink, **_):
    """Stands in for `bcd.api.run_job`."""
    for step in range(1, spec.schedule.steps + 1):
        sink.metrics(step, {"loss": 1.0 / step})
    checkpoint = workdir / "newest"
    checkpoint.write_bytes(b"weights and optimizer")
    sink.checkpoint(checkpoint, spec.schedule.steps)
    sink.evaluation(spec.schedule.steps, "final", "p1", {"AP": 12.5, "per_class": {"0": None}})
    result = workdir / "student.safetensors"
    result.write_bytes(b"weights")
    return SimpleNamespace(path=result, evaluation={"AP": 12.5}, steps=spec.schedule.steps, seconds=0.1)


def kinds(service) -> list[str]:
    return [
        getattr(record, "state", None) or getattr(record, "type", None) or record.kind for record in service.records
    ]


def run(args, service, function, **more):
    return run_attempt(args, run=function, channel=service, patience=20, **more)


def test_a_run_reports_everything_in_order_and_clears_its_folder(args, service, tmp_path):
    service._ticket = ticket()
    assert run(args, service, train) == "succeeded"
    assert kinds(service) == ["running", *["metric"] * 4, "checkpoint", "evaluation", "result", "succeeded"]
    checkpoint, result = service.records[5], service.records[7]
    assert checkpoint.name == "step-00000004.ckpt"
    assert (result.name, result.step) == ("student.safetensors", 4)
    stored = StoredObject(key=result.key, sha256=result.sha256, size=result.size)
    assert open_store(args.storage).get(stored, into=tmp_path).read_bytes() == b"weights"
    assert not args.folder.exists()


def test_the_folder_stays_while_something_is_not_acknowledged(args, service):
    service._ticket = ticket()

    def cut_off(spec, **given):
        service.away = True
        return train(spec, **given)

    assert run_attempt(args, run=cut_off, channel=service, patience=0.05) == "succeeded"
    assert (args.folder / "outbox.jsonl").exists()


def test_a_fault_of_the_job_is_one_line_and_not_retried(args, service):
    service._ticket = ticket()

    def fail(*_args, **_more):
        raise JobError("bad-data", "no image in\n   train/")

    assert run(args, service, fail) == "failed"
    last = service.records[-1]
    assert (last.state, last.cause, last.retryable, last.traceback) == ("failed", "no image in train/", False, None)


def test_a_run_whose_process_was_killed_may_be_tried_again(args, service):
    service._ticket = ticket()

    def killed(*_args, **_more):
        raise JobError(PROCESS_DIED, "process 2 of 2 was ended by signal 9")

    assert run(args, service, killed) == "failed"
    last = service.records[-1]
    assert (last.cause, last.retryable) == ("process 2 of 2 was ended by signal 9", True)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (MemoryError(), "out of memory: use a smaller schedule.batch_size"),
        (SystemExit(3), "SystemExit: 3"),
        (RuntimeError("x" * 9000), None),
    ],
)
def test_an_unexpected_error_is_reported_with_its_traceback(args, service, error, cause):
    service._ticket = ticket()

    def fail(*_args, **_more):
        raise error

    assert run(args, service, fail) == "failed"
    last = service.records[-1]
    assert cause is None or last.cause == cause
    assert type(error).__name__ in last.traceback
    assert not last.retryable


def test_a_full_disk_is_a_fault_of_the_machine_and_may_be_retried(args, service):
    service._ticket = ticket()

    def fail(*_args, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert run(args, service, fail) == "failed"
    last = service.records[-1]
    assert (last.cause, last.retryable) == ("OSError: [Errno 28] No space left on device", True)


def test_a_fault_that_names_a_file_that_is_not_utf8_is_reported(args, service):
    service._ticket = ticket()

    def fail(_spec, *, sink, **_more):
        sink.log("skipped \udcff.jpg", "warning")
        raise JobError("bad-data", "cannot decode \udcff.jpg")

    assert run(args, service, fail) == "failed"
    assert service.records[1].text == "skipped \\udcff.jpg"
    assert service.records[-1].cause == "cannot decode \\udcff.jpg"


def test_scalars_beyond_what_one_record_holds_are_split(args, service):
    service._ticket = ticket()
    many = {f"AP/{number}": 1.0 for number in range(4500)}

    def report(spec, *, sink, **given):
        sink.metrics(1, many)
        return train(spec, sink=sink, **given)

    assert run(args, service, report) == "succeeded"
    parts = [record.values for record in service.records[1:4]]
    assert [len(part) for part in parts] == [2000, 2000, 500]
    assert parts[0] | parts[1] | parts[2] == many


def test_a_spec_that_this_worker_does_not_know_fails_the_job(args, service):
    service._ticket = ticket({**SPEC, "later": 1})
    assert run(args, service, train) == "failed"
    assert "unknown key" in service.records[-1].cause


def wait_and_stop(_spec, *, should_stop, **_):
    while not should_stop():
        pass
    raise Cancelled


def test_a_cancellation_reaches_the_training_loop_and_ends_as_cancelled(args, service):
    service._ticket, service.cancel = ticket(), True
    assert run(args, service, wait_and_stop) == "cancelled"
    assert service.records[-1].state == "cancelled"


def test_a_stale_attempt_stops_quietly_and_reports_nothing_more(args, service):
    service._ticket = ticket(lease_seconds=0.3)  # heartbeats every 0.1 s
    service.lease_seconds = 0.3

    def replaced(spec, **given):
        service.stale = True
        return wait_and_stop(spec, **given)

    assert run(args, service, replaced) == "stale"
    assert all(record.kind != "state" or record.state == "running" for record in service.records)
    assert not args.folder.exists()


def test_an_attempt_that_is_stale_from_the_start_never_trains(args, service):
    service.stale = True
    assert run(args, service, lambda *_a, **_k: pytest.fail("must not train")) == "stale"


def test_waits_for_a_service_that_is_not_up_yet(args, service, monkeypatch):
    service._ticket, service.away = ticket(), True
    monkeypatch.setattr("time.sleep", lambda _seconds: setattr(service, "away", False))
    assert run(args, service, train) == "succeeded"


def test_values_that_are_not_finite_become_a_warning(args, service):
    service._ticket = ticket()

    def odd(spec, *, sink, **given):
        sink.metrics(1, {"loss": float("nan"), "lr": 0.1})
        sink.metrics(2, {"loss": float("inf")})
        return train(spec, sink=sink, **given)

    assert run(args, service, odd) == "succeeded"
    first, warning, second = service.records[1:4]
    assert first.values == {"lr": 0.1}
    assert (warning.level, warning.text) == ("warning", "step 1: not a finite number: loss")
    assert second.kind == "log"


def test_a_second_process_of_the_same_attempt_goes_on_behind_the_first(args, service):
    service._ticket = ticket()

    def die(_spec, *, sink, **_):
        sink.metrics(1, {"loss": 1.0})
        service.wait_for(lambda: len(service.records) == 2)
        service.away = True
        sink.metrics(2, {"loss": 0.5})
        raise KeyboardInterrupt

    assert run_attempt(args, run=die, channel=service, patience=0.01) == "failed"
    lines = (args.folder / "outbox.jsonl").read_bytes().splitlines(keepends=True)
    (args.folder / "outbox.jsonl").write_bytes(b"".join(lines[:3]))  # as if it had been killed before its last word
    service.away, service._ticket = False, ticket(next_seq=3)
    assert run(args, service, train) == "succeeded"
    assert [record.seq for record in service.records] == list(range(1, len(service.records) + 1))
    assert kinds(service)[:4] == ["running", "metric", "metric", "running"]


def test_what_a_run_rests_on_reaches_the_service_in_a_form_that_it_takes(args, service):
    def tell(spec, *, sink, **given):
        sink.facts({"git_commit": "f" * 40, "host": "m\udcff" + "x" * 1000})
        return train(spec, sink=sink, **given)

    service._ticket = ticket()
    assert run(args, service, tell) == "succeeded"
    (facts,) = (record.values for record in service.records if record.kind == "facts")
    assert facts == {"git_commit": "f" * 40, "host": r"m\udcff" + "x" * 493}
