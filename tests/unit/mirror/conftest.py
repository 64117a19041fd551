"""A real MLflow server for all tests of this folder, and an installation for each whose jobs it is to have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event, update

from service.attempts import outcome
from service.mirror import check
from service.mirror.loop import Mirror, pending
from service.mirror.mlflow_api import Mlflow, MlflowAway, Run
from service.mirror.wanted import JOB, experiment_of
from service.models import Attempt, Job, Project
from service.models import Mirror as Row
from tests.helpers.api import FakeWorker, claim, make_client, make_settings, tiny_spec
from tests.helpers.mlflow_server import Faults, MlflowServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


class World:
    """An installation, MLflow as it is, and a mirror whose requests may break on the way."""

    def __init__(self, home: Path, url: str, server: MlflowServer):
        self.server = server
        self.settings = make_settings(home, database_url=url, mlflow_public_url="https://mlflow.example.org")
        self.client = make_client(self.settings, raise_errors=True).__enter__()
        self.db = self.client.app.state.db  # type: ignore[attr-defined]
        self.mlflow = Mlflow(server.url)
        self.faults = Faults()
        self.now = 0.0
        self.restart()

    def restart(self) -> None:
        """A mirror that knows nothing but the database."""
        self.mirror = Mirror(
            self.settings, self.db, Mlflow(self.server.url, transport=self.faults), clock=lambda: self.now
        )

    def close(self) -> None:
        self.client.__exit__(None, None, None)
        self.mlflow.close()
        self.faults.close()

    # ------------------------------------------------------------------------------------------------- jobs

    def project(self, name: str) -> str:
        with self.db.write() as session:
            session.add(Project(id=name, created_at=time.time()))
        return name

    def submit(self, *, project: str = "default", group: str | None = None, **spec: Any) -> str:
        job: dict[str, Any] = self.client.post(
            "/api/v1/jobs", json=tiny_spec(**spec), params={"project": project}
        ).json()
        if group is not None:
            self.change(job["id"], group=group)
        return str(job["id"])

    def change(self, job_id: str, **columns: Any) -> None:
        with self.db.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(**columns))

    def work(self, job_id: str) -> FakeWorker:
        """A running attempt of a queued job."""
        worker = FakeWorker(self.client, *claim(self.client, job_id))
        worker.send(worker.running())
        return worker

    def lose(self, worker: FakeWorker) -> None:
        """The worker of an attempt dies."""
        with self.db.write() as session:
            attempt = session.get(Attempt, worker.attempt_id)
            job = session.get(Job, attempt.job_id)
            outcome.lose(session, self.settings, attempt, job, "the worker died", now=time.time())

    def finish(self, job_id: str, ap: float | None = 30.5, *, steps: int = 5, protocol: str = "p") -> str:
        """A job that has run to its end with all that belongs to it."""
        worker = self.work(job_id)
        worker.send(worker.record("facts", values={"git_commit": "c0ffee", "data_version": "d" * 64}))
        for first in range(1, steps + 1, 500):
            several = range(first, min(first + 500, steps + 1))
            worker.send(*(worker.metric(step, **{"loss": 1 / step, "loss/qfl": 0.5 / step}) for step in several))
        worker.send(
            worker.artifact("checkpoint", f"step-{steps:08d}.ckpt", steps, b"checkpoint " + job_id.encode()),
            worker.artifact("result", "student.safetensors", steps, b"weights " + job_id.encode()),
            worker.artifact("other", "report.json", steps, b"{}"),
            worker.evaluation(ap, step=steps, protocol=protocol),
            worker.ended("succeeded"),
        )
        return job_id

    # ----------------------------------------------------------------------------------------------- MLflow

    def copy(self) -> None:
        """A round, a little later than the last one."""
        self.now += 3600.0
        self.mirror.copy_news()

    def copy_whatever_happens(self, rounds: int = 300) -> None:
        for _ in range(rounds):
            if self.pending() == 0:
                return
            try:
                self.copy()
            except MlflowAway:
                continue

    def pending(self) -> int:
        with self.db.read() as session:
            return pending(session)

    def pending_of(self, job_id: str) -> bool:
        with self.db.read() as session:
            row = session.get(Row, job_id)
            return row is None or not row.complete

    def row(self, job_id: str) -> Row:
        with self.db.read() as session:
            row = session.get(Row, job_id)
            assert row is not None
            return row

    def run(self, job_id: str) -> Run:
        """The one run that MLflow has of a job."""
        with self.db.read() as session:
            project = session.get(Job, job_id).project_id
        (run,) = self.mlflow.find_runs([self.mlflow.experiment(experiment_of(project))], JOB, job_id)
        return run

    def values(self, job_id: str, key: str = "loss") -> list[tuple[int, float]]:
        return sorted((one.step, one.value) for one in self.mlflow.history(self.run(job_id).id, key))

    def content(self, job_id: str, path: str) -> bytes:
        run = self.run(job_id)
        folder = self.row(job_id).done["experiment"]
        url = f"{self.server.url}/api/2.0/mlflow-artifacts/artifacts/{folder}/{run.id}/artifacts/{path}"
        return httpx.get(url, trust_env=False).raise_for_status().content

    def differences(self, **options: Any) -> list[str]:
        """What the check finds, but for runs of other tests' jobs."""
        found = check.compare(self.settings, self.db, self.mlflow, **options)
        return [text for text in found if "which does not exist" not in text]

    def count_queries(self) -> list[str]:
        """A list to which every statement that the database gets from now on is added."""
        statements: list[str] = []

        @event.listens_for(self.db.engine, "before_cursor_execute")
        def _count(_connection, _cursor, statement, *_):  # type: ignore[no-untyped-def]
            statements.append(statement)

        return statements


@pytest.fixture
def world(tmp_path: Path, database_url: str, server: MlflowServer) -> Iterator[World]:
    world = World(tmp_path, database_url, server)
    yield world
    world.close()
