"""What the pages of the tests show: the api as a process, and rows made by a worker's voice through the real routes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.testclient import TestClient

from service import processes
from service.auth import owner_token
from service.models import Sweep
from service.settings import Settings
from service.sweeps import repeats
from tests.helpers.api import (
    FakeDriver,
    FakeWorker,
    claim,
    distilled_spec,
    end_job,
    make_client,
    make_settings,
    start,
    submit,
    tiny_spec,
    tiny_sweep,
)
from tests.helpers.installation import free_ports
from tests.helpers.pictures import Drawn, gallery_bytes, predictions_bytes, seen

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BIG = {"backbone": "tiny", "width": 8, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]}
MANY = 230  # more than one page of the list


def find_browser() -> str | None:
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@dataclass
class Server:
    """The api as its own process on a home, and a client in this process that speaks for workers on the same home."""

    settings: Settings
    voice: TestClient
    story: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.settings.api_url

    @property
    def token(self) -> str:
        return owner_token(self.settings)

    def begin(self) -> None:
        wanted = processes.api(self.settings)
        self.process = subprocess.Popen(
            wanted.command, env=wanted.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=2, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                assert time.monotonic() < until, "the api does not come up"
            time.sleep(0.1)

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            self.process = None


@contextmanager
def told(folder: Path) -> Iterator[Server]:
    """The api on a home in this folder, with its story."""
    (port,) = free_ports(1)
    settings = make_settings(
        folder, api_port=port, rate_limit="off", rate_limit_anonymous="off", rate_limit_failures="off"
    )
    with make_client(settings) as voice:
        server = Server(settings, voice)
        tell(server)
        server.begin()
        try:
            yield server
        finally:
            server.end()


def tell(server: Server) -> None:
    """A teacher, three seeds with and without distillation, a failure, a run that goes on, and many that wait."""
    client = server.voice
    cost = {"parameters": 2.4e6, "gflops": 2.1, "latency_ms": 9.2}
    teacher = finish(client, tiny_spec(name="teacher", student=BIG), 50.0, cost, missed={(9, 1)})
    baseline = [
        finish(client, tiny_spec(name=f"base-{i}", seed=i), ap, missed=((1, 0), (3, 0), (3, 1), (9, 1)))
        for i, ap in enumerate((30.0, 31.0, 31.0))
    ]
    bckd = [
        finish(client, distilled_spec(teacher, name=f"bckd-{i}", seed=i), ap) for i, ap in enumerate((35.0, 36.1, 35.9))
    ]
    failed, worker = start(client, tiny_spec(name="broken run", seed=9))
    worker.send(
        worker.record("log", level="error", text="the loss is not finite"),
        worker.ended("failed", cause="the loss is not finite at step 3", traceback="Traceback: NaN"),
    )
    sweep = tell_sweep(client)
    many = [submit(client, tiny_spec(name=f"waiting {i:03}", seed=i))["id"] for i in range(MANY)]
    server.story = {
        "table": tell_table(client, teacher),
        "sweep": sweep,
        "teacher": teacher,
        "baseline": baseline,
        "bckd": bckd,
        "failed": failed["id"],
        "many": many,
    }


def tell_table(client: TestClient, teacher: str) -> str:
    """A table of which some cells are done and one has failed."""
    spec = tiny_spec()
    manifest = {
        "name": "table of the story", "job": {"data": spec["data"], "schedule": {**spec["schedule"], "steps": 5}},
        "teacher": {"job": teacher}, "students": {"tiny": spec["student"]},
        "methods": {"labels": [], "bckd": [{"type": "bckd"}]}, "seeds": [0, 1, 2],
        "published": {"tiny": {"labels": 30.5, "bckd": 36.0}},
    }  # fmt: skip
    table = str(client.post("/api/v1/tables", json=manifest).json()["id"])
    jobs = client.post(f"/api/v1/tables/{table}/submit").json()["job_ids"]
    for job, ap in zip(jobs[:5], (30.1, 30.6, 30.8, 33.0, None), strict=True):
        end_job(client, job, ap)
    return table


def tell_sweep(client: TestClient) -> str:
    """A sweep of twelve trials, three of them stopped and one failed, whose two best were repeated on three seeds."""
    spec = tiny_sweep(
        name="weights of the story", budget={"trials": 12}, promote={"top": 2, "seeds": 3},
        job=tiny_spec(evaluation={"every": 1}), scheduler={"type": "asha", "grace": 1, "reduction": 3},
    )  # fmt: skip
    sweep = str(client.post("/api/v1/sweeps", json=spec).json()["id"])
    driver = FakeDriver(client, sweep)
    for number in range(1, 13):
        width = 4 if number % 3 else 8
        ap = 40.0 - 0.6 * (number - 7) ** 2 + 0.2 * width
        job = driver.add(number, lr=0.007 * number, width=width)["job_id"]
        if number in (1, 2, 12):
            worker = FakeWorker(client, *claim(client, job))
            worker.send(worker.running(), worker.metric(1, AP=ap / 2))
            driver.ask("POST", f"/trials/{number}/stop", {"why": f"stopped by ASHA at step 1: AP {ap / 2:.2f}"})
            worker.send(worker.ended("cancelled"))
        else:
            end_job(client, job, None if number == 10 else ap, reports={1: ap / 2, 2: ap * 0.8})
    driver.ask("POST", "/end", {})
    means = {0: 33.0, 6: 40.0, 7: 40.4}
    for trial in client.get(f"/api/v1/sweeps/{sweep}/trials").json()["items"]:
        if trial["state"] == "queued":
            seed = trial["seed"]
            end_job(
                client,
                trial["job_id"],
                means[trial["number"]] + (0.3, -0.1, 0.4)[seed - 1] * (1 + trial["number"] / 20),
            )
    with client.app.state.db.write() as session:  # type: ignore[attr-defined]
        assert repeats.settle(session, session.get(Sweep, sweep))
    return sweep


SMALL = {"parameters": 6.1e5, "gflops": 0.4, "latency_ms": 3.1}


DRAWN = Drawn()
GALLERY = gallery_bytes(DRAWN)


def finish(
    client: TestClient,
    spec: dict[str, Any],
    ap: float,
    cost: dict[str, float] = SMALL,
    missed: Collection[tuple[int, int]] = ((3, 0), (7, 1), (9, 1)),
) -> str:
    """A job that has reported this AP and cost and ended well; its id. On some images it has missed some objects."""
    job, worker = start(client, spec)
    worker.send(
        worker.record("facts", values={"device": "H100", "host": "node-1"}),
        *(worker.metric(step, loss=4.0 / step) for step in range(1, 5)),
        worker.metric(4, AP=ap, **cost),
        worker.artifact("result", "student", 4, job["id"].encode()),
        worker.artifact("predictions", "predictions.npz", 4, _predictions(missed)),
        worker.artifact("gallery", "validation-images.zip", 4, GALLERY),
        worker.evaluation(ap, per_class={"cells": ap + 20, "platelets": ap - 20 + _noise(ap), "dust": None}),
        worker.ended("succeeded"),
    )
    return str(job["id"])


def _predictions(missed: Collection[tuple[int, int]]) -> bytes:
    return predictions_bytes(DRAWN, seen(DRAWN, missed=set(missed), made_up={5}))


def _noise(ap: float) -> float:
    """As wide as the difference that distilling makes, so that one class gains clearly and one does not."""
    return 20 * (ap * 10 % 3 - 1)
