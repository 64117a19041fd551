"""The real thing on a temporary home: API, dispatcher, Ray and MLflow as child processes, with tiny jobs."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from service.auth import owner_token
from service.db import Database
from service.mirror.check import compare
from service.mirror.mlflow_api import Mlflow
from service.settings import Settings
from service.up import Tree

PATIENCE = 300.0  # seconds; only how long a broken system may hold up the tests


class Installation:
    """One home, its tree while it runs, and a client."""

    def __init__(self, home: Path, **settings: Any):
        api, mlflow, ray = free_ports(3)
        # A short lease, so that the tests need not wait for a long one.
        self.settings = Settings.load(
            home, api_port=api, mlflow_port=mlflow, ray_port=ray, **{"lease_seconds": 8.0, **settings}
        )
        self.tree = Tree(self.settings)
        self._http: httpx.Client | None = None

    def call(self, method: str, path: str, **given: Any) -> Any:
        """Call the API; wait while it is being started again."""
        headers = {"Authorization": f"Bearer {owner_token(self.settings)}"}
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                url = f"{self.settings.api_url}/api/v1{path}"
                answer = httpx.request(method, url, headers=headers, timeout=20, trust_env=False, **given)
                break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        assert answer.is_success, answer.text
        return answer.json()

    def submit(self, steps: int = 20, **changes: Any) -> str:
        return str(self.call("POST", "/jobs", json=spec(steps, **changes))["id"])

    def job(self, job_id: str) -> Any:
        return self.call("GET", f"/jobs/{job_id}")

    def wait(self, job_id: str, until: Callable[[Any], bool]) -> Any:
        """The job as soon as `until` is true of it."""
        return eventually(lambda: self.job(job_id), until)

    def finished(self, job_id: str) -> Any:
        return self.wait(job_id, lambda job: job["state"] in ("succeeded", "failed", "cancelled"))

    def series(self, job_id: str, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/jobs/{job_id}/metrics", params={"key": key})["series"][key]
        return found

    def artifacts(self, job_id: str, type: str) -> list[Any]:
        return [a for a in self.call("GET", f"/jobs/{job_id}/artifacts")["items"] if a["type"] == type]

    def worker(self, job_id: str) -> psutil.Process:
        """The process that runs the newest attempt: the one that holds its outbox open."""
        attempt = self.job(job_id)["attempts"][-1]["id"]
        outbox = str(self.settings.work / attempt / "outbox.jsonl")

        def holder() -> psutil.Process | None:
            for process in self.tree.processes():
                try:
                    if any(file.path == outbox for file in process.open_files()):
                        return process
                except psutil.Error:
                    continue
            return None

        found = eventually(holder, lambda process: process is not None)
        assert found is not None
        return found

    def mirrored(self) -> bool:
        state = json.loads((self.settings.run / "mirror.json").read_text())
        return state["pending"] == 0

    def mirror_differences(self) -> list[str]:
        """How MLflow differs from the database."""
        db, mlflow = Database(self.settings.database_url), Mlflow(self.settings.mlflow_url)
        try:
            return compare(self.settings, db, mlflow)
        finally:
            mlflow.close()
            db.close()


def eventually(look: Callable[[], Any], until: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        seen = look()
        if until(seen):
            return seen
        assert time.monotonic() < deadline, f"it never happened; last seen: {seen}"
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def spec(steps: int = 20, **changes: Any) -> dict[str, Any]:
    """A job that trains for a second or two; it learns nothing and needs to learn nothing."""
    return {
        "name": "tiny",
        "data": {
            "type": "digits-scenes-v1", "train_images": 64, "val_images": 16, "image_size": 64, "max_size": 40,
        },
        "student": {
            "backbone": "tiny", "width": 8, "fpn_channels": 16, "stacked_convs": 1, "strides": [8, 16], "reg_max": 8,
        },
        "schedule": {
            "steps": steps, "batch_size": 8, "checkpoint_every": 10, "log_every": 1, "warmup_steps": 2,
        },
        **changes,
    }  # fmt: skip
