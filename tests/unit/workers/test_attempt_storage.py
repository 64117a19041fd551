"""What an attempt takes from storage and brings there, on a folder and on S3, also while storage is full or away."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bcd.api import run_job
from bcd.records import StoredObject, Ticket
from bcd.storage import Store, open_store
from tests.helpers.runs import TINY
from tests.helpers.s3 import Inside, closed_port, new_bucket, s3_server, use_server
from workers.attempt import AttemptArgs, run_attempt

WITH_TEACHER = {**TINY, "teacher": {"job": "job_0"}, "methods": [{"type": "bckd"}]}


def args_for(tmp_path: Path, storage: str) -> AttemptArgs:
    return AttemptArgs(
        attempt_id="att_1", epoch=1, api_url="http://127.0.0.1:1", storage=storage, work=str(tmp_path / "work"),
        data_cache=str(tmp_path / "cache"), token="secret",
    )  # fmt: skip


@pytest.fixture
def args(tmp_path: Path, storage_uri: str) -> AttemptArgs:
    return args_for(tmp_path, storage_uri)


@pytest.fixture
def store(args: AttemptArgs) -> Store:
    return open_store(args.storage)


def ticket(spec: dict[str, Any] = TINY, **more: Any) -> Ticket:
    values = {"job_id": "job_1", "attempt_id": "att_1", "number": 2, "epoch": 1, "lease_seconds": 30.0}
    return Ticket(spec=spec, **{**values, **more})


def stored(store: Store, folder: Path, text: str, step: int = 0) -> StoredObject:
    path = folder / f"{step}.bin"
    path.write_text(text)
    return store.put(path, step=step)


def train(spec, *, workdir, sink, **_):
    """Stands in for `bcd.api.run_job`."""
    checkpoint, result = workdir / "newest", workdir / "student.safetensors"
    checkpoint.write_bytes(b"weights and optimizer" * 50_000)
    sink.checkpoint(checkpoint, 8)
    result.write_bytes(b"weights")
    return SimpleNamespace(path=result, evaluation={}, steps=8, seconds=0.1)


def run(args, service, function, *, patience: float = 60, **more):
    return run_attempt(args, run=function, channel=service, patience=patience, **more)


def logs(service) -> list[str]:
    return [record.text for record in service.records if record.kind == "log"]


def artifacts(service, type: str) -> list[StoredObject]:
    """Newest first."""
    return [
        StoredObject(key=one.key, sha256=one.sha256, size=one.size, step=one.step)
        for one in reversed(service.records)
        if one.kind == "artifact" and one.type == type
    ]


# ---------------------------------------------------------------------------------------------- what it starts from


def test_a_stopped_run_resumes_from_s3_and_ends_with_the_same_bits(s3_uri, service, tmp_path):
    args, store = args_for(tmp_path, s3_uri), open_store(s3_uri)
    spec = {**TINY, "schedule": {**TINY["schedule"], "steps": 4, "checkpoint_every": 2}}

    inside = Inside(s3_uri)
    service._ticket = ticket(spec, number=1)
    assert run(args, service, run_job, stop=lambda: inside.names() != []) == "cancelled"
    checkpoints = artifacts(service, "checkpoint")
    assert 2 <= checkpoints[0].step <= 4

    service._ticket = ticket(spec, resume=checkpoints, next_seq=len(service.records) + 1)
    assert run(args, service, run_job) == "succeeded"
    assert f"attempt 2 resumes from the checkpoint of step {checkpoints[0].step}" in logs(service)

    service._ticket = ticket(spec, next_seq=len(service.records) + 1)
    assert run(args, service, run_job) == "succeeded"
    whole, resumed = (load_file(store.get(one, into=tmp_path)) for one in artifacts(service, "result"))
    assert set(whole) == set(resumed)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_resumes_from_the_newest_checkpoint_that_is_still_whole(args, service, store, tmp_path, damage):
    newest, middle, oldest = (stored(store, tmp_path, f"checkpoint {step}", step) for step in (30, 20, 10))
    inside = Inside(args.storage)
    if damage == "missing":
        inside.remove(newest.key)
    else:
        inside.write(newest.key, b"checkpoint 3" if damage == "truncated" else b"checkpoint 31")
    service._ticket = ticket(resume=[newest, middle, oldest])
    seen: list[str] = []

    def resume(spec, *, resume_from, **given):
        seen.extend(path.read_text() for path in resume_from)
        return train(spec, **given)

    assert run(args, service, resume) == "succeeded"
    assert seen == ["checkpoint 20", "checkpoint 10"]
    assert "step 30 is not usable, falling back" in logs(service)[0]
    assert "resumes from the checkpoint of step 20" in logs(service)[1]


def test_checkpoints_that_are_not_needed_are_not_fetched(s3_uri, service, tmp_path):
    args, store = args_for(tmp_path, s3_uri), open_store(s3_uri)
    service._ticket = ticket(resume=[stored(store, tmp_path, f"checkpoint {step}", step) for step in (20, 10)])
    fetched: list[str] = []

    def resume(spec, *, resume_from, **given):
        next(iter(resume_from))
        fetched.extend(path.read_text() for path in (args.folder / "run" / "fetched").iterdir())
        return train(spec, **given)

    assert run(args, service, resume) == "succeeded"
    assert fetched == ["checkpoint 20"]
    assert not args.folder.exists()


def test_the_teacher_is_handed_over_under_a_name_with_the_right_suffix(args, service, store, tmp_path):
    service._ticket = ticket(WITH_TEACHER, teacher=stored(store, tmp_path, "teacher weights"))
    seen: list[Path] = []

    def look(spec, *, teacher_path, **given):
        assert teacher_path.read_text() == "teacher weights"
        seen.append(teacher_path)
        return train(spec, **given)

    assert run(args, service, look) == "succeeded"
    assert seen[0].suffix == ".safetensors"


def test_a_missing_teacher_fails_the_job_with_a_clear_cause(args, service, store, tmp_path):
    teacher = stored(store, tmp_path, "teacher weights")
    store.delete(teacher.key)
    service._ticket = ticket(WITH_TEACHER, teacher=teacher)
    assert run(args, service, train) == "failed"
    last = service.records[-1]
    assert last.cause.startswith("the result of the teacher, job job_0, is not usable")
    assert not last.retryable


# ------------------------------------------------------------------------------------------------------- outages


class Place:
    """Storage whose outages the test begins and ends."""

    def __init__(self, uri: str, outage: Callable[[], AbstractContextManager[None]]):
        self.uri, self.outage = uri, outage


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, monkeypatch) -> Iterator[Place]:
    if request.param == "folder":
        root, elsewhere = tmp_path / "storage", tmp_path / "unmounted"

        @contextmanager
        def unmounted() -> Iterator[None]:
            os.rename(root, elsewhere)
            root.touch()
            yield
            root.unlink()
            os.rename(elsewhere, root)

        root.mkdir()
        yield Place(str(root), unmounted)
        return

    port, server = closed_port(), None

    def up() -> None:
        nonlocal server
        server = s3_server(port)
        server.__enter__()

    @contextmanager
    def down() -> Iterator[None]:
        server.__exit__(None, None, None)
        yield
        up()

    use_server(monkeypatch, f"http://127.0.0.1:{port}")
    up()
    yield Place(new_bucket(), down)
    server.__exit__(None, None, None)


@contextmanager
def until_told(service, outage: AbstractContextManager[None], message: str) -> Iterator[None]:
    """An outage that ends once the attempt says that it waits."""

    def end() -> None:
        service.wait_for(lambda: any(message in text for text in logs(service)))
        outage.__exit__(None, None, None)

    outage.__enter__()
    thread = threading.Thread(target=end)
    thread.start()
    yield
    thread.join()


def test_storage_that_is_away_at_the_start_is_waited_for_and_no_step_is_done_again(place, service, tmp_path):
    args, store = args_for(tmp_path, place.uri), open_store(place.uri)
    service._ticket = ticket(resume=[stored(store, tmp_path, "checkpoint 20", 20)])
    seen: list[str] = []

    def resume(spec, *, resume_from, **given):
        seen.extend(path.read_text() for path in resume_from)
        return train(spec, **given)

    with until_told(service, place.outage(), "waiting for it to get better"):
        assert run(args, service, resume) == "succeeded"
    assert seen == ["checkpoint 20"]


def test_storage_that_goes_away_during_a_run_delays_it_and_nothing_is_lost(place, service, tmp_path):
    args, store = args_for(tmp_path, place.uri), open_store(place.uri)
    service._ticket = ticket()

    def train_on(spec, **given):
        with until_told(service, place.outage(), "waiting for it to get better"):
            return train(spec, **given)

    assert run(args, service, train_on) == "succeeded"
    for one in (*artifacts(service, "checkpoint"), *artifacts(service, "result")):
        assert store.get(one, into=tmp_path / "got").stat().st_size == one.size
    assert any(text.startswith("better again after") for text in logs(service))


@contextmanager
def no_room() -> Iterator[None]:
    """The system stops this process in the middle of every file of more than 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_storage_folder_delays_a_run_and_nothing_is_lost(service, tmp_path):
    args = args_for(tmp_path, str(tmp_path / "storage"))
    service._ticket = ticket()

    def train_on(spec, *, workdir, sink, **_):
        checkpoint = workdir / "newest"
        checkpoint.write_bytes(b"weights and optimizer" * 50_000)
        with until_told(service, no_room(), "cannot be written: File too large; waiting for it to get better"):
            sink.checkpoint(checkpoint, 8)
        return train(spec, workdir=workdir, sink=sink)

    assert run(args, service, train_on) == "succeeded"
    (checkpoint, same), store = artifacts(service, "checkpoint"), open_store(args.storage)
    assert checkpoint == same
    assert store.get(checkpoint, into=tmp_path).stat().st_size == 1_050_000
    assert list(Path(args.storage, "tmp").iterdir()) == []


def test_storage_that_stays_away_fails_the_attempt_so_that_another_may_try(place, service, tmp_path):
    service._ticket = ticket()
    with place.outage():
        assert run(args_for(tmp_path, place.uri), service, train, patience=0.05) == "failed"
    last = service.records[-1]
    assert last.retryable
    assert last.cause.startswith("StorageUnavailable: ")
    assert place.uri in last.cause


def test_a_cancelled_attempt_waits_for_no_storage(place, service, tmp_path):
    service._ticket, service.cancel = ticket(), True
    with place.outage():
        assert run(args_for(tmp_path, place.uri), service, train) == "failed"
    assert service.records[-1].retryable


def test_an_address_that_is_none_fails_the_job_with_what_to_write(service, tmp_path):
    service._ticket = ticket()
    assert run(args_for(tmp_path, "gs://bucket/x"), service, train) == "failed"
    last = service.records[-1]
    assert "give an absolute folder or s3://bucket/prefix" in last.cause
    assert not last.retryable
