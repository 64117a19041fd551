"""A real database (each of the two) with jobs in it, a fake cluster, and a clock that the test moves."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bcd.records import RecordAck, RecordBatch, record_adapter
from service.attempts.service import apply_records
from service.auth import ensure_secrets
from service.db import Database
from service.dispatch.fake_backend import FakeBackend
from service.dispatch.leadership import Leadership
from service.dispatch.reconciler import Reconciler
from service.jobs import service as jobs
from service.models import Attempt, Job
from service.settings import Settings
from tests.helpers.api import ROOT

SPEC: dict[str, Any] = {
    "name": "test",
    "data": {"type": "digits-scenes-v1"},
    "student": {"backbone": "tiny", "width": 8, "fpn_channels": 16, "strides": [8, 16]},
    "schedule": {"steps": 40},
}
LEASE = 30.0


class World:
    """Database, cluster, clock and a dispatcher that can be killed and started again."""

    def __init__(self, home: Path, database_url: str):
        self.settings = Settings.load(
            home,
            database_url=database_url,
            lease_seconds=LEASE,
            max_attempts=3,
            retry_seconds=0.0,
            unplaceable_seconds=0.0,
        )
        ensure_secrets(self.settings)
        self.db = Database(self.settings.database_url)
        self.service_up = True
        self.backend = FakeBackend()
        self.now = time.time()
        self.lead = self.candidate("first")
        self.restart()

    def time(self) -> float:
        """`time.time` of everything in the test: a little later at each look, so that no two things are at once."""
        self.now += 0.001
        return self.now

    def candidate(self, name: str) -> Leadership:
        return Leadership(
            self.db, "dispatch", seconds=self.settings.leader_seconds, clock=lambda: self.now, holder=name
        )

    def restart(self) -> None:
        """A new dispatcher that knows nothing but the database; the old one is gone."""
        self.lead.resign()
        self.lead = self.candidate(secrets.token_hex(4))
        assert self.lead.seek()
        self.reconciler = self.new_reconciler(self.lead)

    def new_reconciler(self, lead: Leadership) -> Reconciler:
        return Reconciler(
            self.settings, self.db, self.backend, lead, clock=lambda: self.now, service_up=lambda: self.service_up
        )

    def tick(self, times: int = 1, after: float = 0.0) -> None:
        self.now += after
        for _ in range(times):
            assert self.lead.seek()
            self.reconciler.tick()

    def wait(self, seconds: float, every: float = 4.0) -> None:
        """Rounds for so long."""
        end = self.now + seconds
        while self.now < end:
            self.tick(after=min(every, end - self.now))

    def submit(self, **changes: Any) -> str:
        return jobs.submit(self.db, ROOT, {**SPEC, **changes})[0].id

    def job(self, job_id: str) -> Job:
        with self.db.read() as session:
            job = session.get(Job, job_id)
            assert job is not None
            return job

    def attempts(self, job_id: str) -> list[Attempt]:
        with self.db.read() as session:
            query = select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)
            return list(session.scalars(query))

    def newest(self, job_id: str) -> Attempt:
        return self.attempts(job_id)[-1]

    def report(self, attempt: Attempt, *records: dict[str, Any]) -> RecordAck:
        """What the worker of an attempt sends."""
        with self.db.write() as session:
            row = session.get(Attempt, attempt.id)
            batch = RecordBatch(epoch=attempt.epoch, records=numbered(records, row.acked_seq + 1))
            ack = apply_records(session, self.settings, attempt.id, batch)
            row.lease_until = self.now + LEASE
            return ack

    def change(self, action: Callable[..., Any], *args: Any) -> Any:
        with self.db.write() as session:
            return action(session, *args)


def numbered(records: Any, first: int) -> list[Any]:
    return [
        record_adapter.validate_python({"seq": seq, "time": 1000.0 + seq, **record})
        for seq, record in enumerate(records, start=first)
    ]


RUNNING = {"kind": "state", "state": "running"}
SUCCEEDED = {"kind": "state", "state": "succeeded"}


def checkpoint(step: int, content: str = "c") -> dict[str, Any]:
    digest = (content * 64)[:64]
    key = f"objects/{digest[:2]}/{digest}"
    return {
        "kind": "artifact", "type": "checkpoint", "name": f"step-{step:08d}.ckpt", "step": step,
        "sha256": digest, "size": 1, "key": key,
    }  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path, database_url)
    monkeypatch.setattr(time, "time", world.time)
    yield world
    world.db.close()
