"""An API on a temporary home, without any process: settings, client, the smallest spec, a worker's voice."""

from __future__ import annotations

import json
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

from httpx import Response
from sqlalchemy import func, select
from starlette.testclient import TestClient

from service import storage
from service.access.principal import Principal
from service.app import create_app, prepare
from service.auth import attempt_token, owner_token, sweep_token
from service.jobs.states import move
from service.models import Attempt, Job, JobState, Scope, Sweep, new_id
from service.settings import Settings

TINY_SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"type": "digits-scenes-v1", "train_images": 8, "val_images": 4, "image_size": 64},
    "student": {"backbone": "tiny", "width": 4, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]},
    "schedule": {"steps": 4, "batch_size": 2, "warmup_steps": 0, "checkpoint_every": 2, "log_every": 1},
    "seed": 0,
}


def tiny_sweep(**changes: Any) -> dict[str, Any]:
    """A sweep around `TINY_SPEC` with top-level keys replaced."""
    return {
        "name": "tiny sweep",
        "job": deepcopy(TINY_SPEC),
        "space": {
            "schedule.optimizer.lr": {"type": "loguniform", "low": 0.001, "high": 0.1},
            "student.width": {"type": "choice", "values": [4, 8]},
        },
        "search": {"type": "random"},
        "budget": {"trials": 4},
        **changes,
    }


# A caller who may do everything, for calls below the HTTP layer.
ROOT = Principal(user_id="user_root", name="root", token_id="tok_root", scope=Scope.ADMIN, is_admin=True)


def tiny_spec(**changes: Any) -> dict[str, Any]:
    """`TINY_SPEC` with top-level keys replaced."""
    return {**deepcopy(TINY_SPEC), **changes}


def make_settings(tmp_path: Path, **overrides: Any) -> Settings:
    """A prepared installation (secrets, migrated SQLite database) under `tmp_path/home`."""
    settings = Settings.load(tmp_path / "home", **overrides)
    prepare(settings)
    return settings


def make_client(settings: Settings, *, token: str | None = "owner", raise_errors: bool = False) -> TestClient:
    """A client of the API as its owner; `token=None` sends no token, another text is sent as it is."""
    client = TestClient(create_app(settings, web=None), raise_server_exceptions=raise_errors)
    if token is not None:
        sent = owner_token(settings) if token == "owner" else token
        client.headers["Authorization"] = f"Bearer {sent}"
    return client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def make_token(client: TestClient, **fields: Any) -> str:
    """The secret of a new token: of the client's own user and of scope admin, unless `fields` say otherwise."""
    made = client.post("/api/v1/tokens", json={"name": "test", "scope": "admin", **fields})
    assert made.status_code == 201, made.text
    return str(made.json()["token"])


def make_user(client: TestClient, name: str, role: str | None = None, *, project: str = "default", **token: Any) -> str:
    """A new user with a role in a project, and the secret of a token of theirs."""
    made = client.post("/api/v1/users", json={"name": name})
    assert made.status_code == 201, made.text
    if role is not None:
        member = client.put(f"/api/v1/projects/{project}/members/{name}", json={"role": role})
        assert member.status_code == 200, member.text
    return make_token(client, user=name, **token)


def make_project(client: TestClient, id: str, **fields: Any) -> str:
    """A new project; its id."""
    made = client.post("/api/v1/projects", json={"id": id, **fields})
    assert made.status_code == 201, made.text
    return id


def distilled_spec(teacher_job: str, **changes: Any) -> dict[str, Any]:
    """`TINY_SPEC` that learns from another job by BCKD."""
    return tiny_spec(teacher={"job": teacher_job}, methods=[{"type": "bckd"}], **changes)


def submit(
    client: TestClient, spec: dict[str, Any] | None = None, *, project: str = "default", **headers: str
) -> dict[str, Any]:
    """Submit a spec that must be accepted; the job as the API shows it."""
    body = tiny_spec() if spec is None else spec
    response = client.post("/api/v1/jobs", params={"project": project}, json=body, headers=headers)
    assert response.status_code in (200, 201), response.text
    job: dict[str, Any] = response.json()
    return job


def claim(client: TestClient, job_id: str) -> tuple[str, int]:
    """What the dispatcher does to a queued job: a new attempt with the next epoch. Returns attempt id and epoch."""
    with client.app.state.db.write() as session:  # type: ignore[attr-defined]
        job = session.get(Job, job_id)
        number = session.scalar(select(func.count()).select_from(Attempt).where(Attempt.job_id == job_id)) + 1
        job.epoch += 1
        attempt = Attempt(
            id=new_id("att"), job_id=job_id, number=number, epoch=job.epoch, state="starting", actor=f"a{number}",
            cpus=1, gpus=0, acked_seq=0, lease_until=time.time() + 30, created_at=time.time(),
        )  # fmt: skip
        session.add(attempt)
        move(session, job, JobState.STARTING, actor="dispatcher", attempt_id=attempt.id)
        return attempt.id, job.epoch


class FakeWorker:
    """Speaks for one attempt: numbers its records and sends them with the attempt's token."""

    def __init__(self, client: TestClient, attempt_id: str, epoch: int):
        self.client, self.attempt_id, self.epoch, self.seq = client, attempt_id, epoch, 0
        token = attempt_token(client.app.state.settings, attempt_id, epoch)  # type: ignore[attr-defined]
        self.headers = {"Authorization": f"Bearer {token}"}

    def record(self, kind: str, **fields: Any) -> dict[str, Any]:
        self.seq += 1
        return {"seq": self.seq, "time": 1000.0 + self.seq, "kind": kind, **fields}

    def post(self, *records: dict[str, Any], epoch: int | None = None) -> Response:
        body = {"epoch": self.epoch if epoch is None else epoch, "records": list(records)}
        url = f"/api/v1/attempts/{self.attempt_id}/records"
        return self.client.post(url, content=json.dumps(body), headers=self.headers)

    def send(self, *records: dict[str, Any]) -> dict[str, Any]:
        """Post a batch that must be accepted; the acknowledgement."""
        response = self.post(*records)
        assert response.status_code == 200, response.text
        ack: dict[str, Any] = response.json()
        return ack

    def ticket(self, process: str | None = None) -> Response:
        """The ticket, asked for by a process (host/pid/birth) or by nobody in particular."""
        headers = {**self.headers, **({"X-Process": process} if process is not None else {})}
        return self.client.get(f"/api/v1/attempts/{self.attempt_id}/ticket", headers=headers)

    def running(self) -> dict[str, Any]:
        return self.record("state", state="running")

    def metric(self, step: int, **values: float) -> dict[str, Any]:
        return self.record("metric", step=step, values=values)

    def artifact(self, type: str, name: str, step: int, content: bytes) -> dict[str, Any]:
        """Put content into storage, as a worker does, and record it."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            stored = storage.of(self.client.app.state.settings).put(Path(file.name), step=step)  # type: ignore[attr-defined]
        return self.record("artifact", type=type, name=name, **stored.model_dump())

    def evaluation(
        self, ap: float | None, *, step: int = 4, name: str = "final", protocol: str = "p", **others: Any
    ) -> dict[str, Any]:
        results = {"AP": ap, "AP50": ap, "AP75": ap, "APs": None, "APm": ap, "APl": ap, "per_class": {"0": ap}}
        results |= others
        return self.record("evaluation", step=step, name=name, protocol=protocol, results=results)

    def ended(self, state: str, **fields: Any) -> dict[str, Any]:
        return self.record("state", state=state, **fields)


def start(
    client: TestClient, spec: dict[str, Any] | None = None, *, project: str = "default"
) -> tuple[dict[str, Any], FakeWorker]:
    """A job with a running attempt."""
    job = submit(client, spec, project=project)
    worker = FakeWorker(client, *claim(client, job["id"]))
    worker.send(worker.running())
    return job, worker


class FakeDriver:
    """Speaks for the driver of a sweep, as if the dispatcher had just started it."""

    def __init__(self, client: TestClient, sweep_id: str):
        self.client, self.sweep_id = client, sweep_id
        with client.app.state.db.write() as session:  # type: ignore[attr-defined]
            sweep = session.get(Sweep, sweep_id)
            sweep.epoch += 1
            self.epoch = sweep.epoch
        token = sweep_token(client.app.state.settings, sweep_id, self.epoch)  # type: ignore[attr-defined]
        self.headers = {"Authorization": f"Bearer {token}", "X-Epoch": str(self.epoch)}

    def call(self, method: str, path: str, body: Any = None) -> Response:
        url = f"/api/v1/sweep-drivers/{self.sweep_id}{path}"
        return self.client.request(method, url, json=body, headers=self.headers)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A call that must be accepted; what it answers."""
        response = self.call(method, path, body)
        assert response.status_code < 300, response.text
        return response.json() if response.content else None

    def add(self, number: int, **params: Any) -> dict[str, Any]:
        """A trial; parameters by the last word of their path."""
        paths = {"lr": "schedule.optimizer.lr", "width": "student.width"}
        body = {"number": number, "params": {paths[name]: value for name, value in params.items()}}
        made: dict[str, Any] = self.ask("POST", "/trials", body)
        return made


def end_job(client: TestClient, job_id: str, ap: float | None, *, reports: dict[int, float] | None = None) -> None:
    """Run a queued job to its end with this AP; None: it fails."""
    worker = FakeWorker(client, *claim(client, job_id))
    worker.send(worker.running(), *(worker.metric(step, AP=value) for step, value in (reports or {}).items()))
    if ap is None:
        worker.send(worker.ended("failed", cause="the loss is not finite"))
    else:
        worker.send(worker.metric(4, AP=ap), worker.evaluation(ap), worker.ended("succeeded"))


def finish(client: TestClient, spec: dict[str, Any], ap: float, *, protocol: str = "p", **others: Any) -> str:
    """A job that has succeeded with this AP, and `others` in its final evaluation; its id."""
    job, worker = start(client, spec)
    worker.send(
        worker.artifact("result", "student", 4, job["id"].encode()),
        worker.evaluation(ap, protocol=protocol, **others),
        worker.ended("succeeded"),
    )
    return str(job["id"])
