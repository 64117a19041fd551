"""An installation to break: it remembers what was acknowledged, drains the queue, and checks all invariants."""

from __future__ import annotations

import random
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from service.auth import owner_token
from service.db import Database
from service.health import invariants
from service.mirror import check as mirror_check
from service.mirror.mlflow_api import Mlflow
from service.models import TERMINAL, Attempt, Job
from tests.helpers.installation import Installation, spec

QUIET = 60.0  # seconds after which no process may be left over (I7) and MLflow must have everything (I8)


@dataclass
class Outcome:
    """What came of one fault: how often it was done, what was counted on the way, and what was broken."""

    name: str
    times: int
    seconds: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return not self.broken


@dataclass(frozen=True)
class Setting:
    """What surrounds a world: settings of its installation, and what the fault is given besides."""

    settings: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


class World:
    """One home and its processes. `say` gets a line of progress now and then."""

    def __init__(self, home: Path, say: Callable[[str], None], *, seed: int = 0, cpus: int = 2, **settings: Any):
        self.home, self.say, self.cpus = home, say, cpus
        self.random = random.Random(seed)
        # One token submits for everybody here.
        self.installation = Installation(home, **{"rate_limit": "off", "rate_limit_failures": "off", **settings})
        self.tree, self.settings = self.installation.tree, self.installation.settings
        self.acknowledged: list[str] = []

    def __enter__(self) -> World:
        self.tree.start()
        self.tree.wait_ready(180)
        self.database = Database(self.settings.database_url)
        return self

    def __exit__(self, *_: object) -> None:
        self.tree.stop()
        self.database.close()

    # ------------------------------------------------------------------------------------------------- jobs

    def submit(self, steps: int = 20, *, at: str | None = None, patience: float = 300.0, **changes: Any) -> str:
        """Submit as a careful client does: with a key, again and again until the service has answered.

        `at`: the address of another api than the tree's.
        """
        key, until = secrets.token_hex(8), time.monotonic() + patience
        while True:
            try:
                headers = {"Idempotency-Key": key, **self.auth()}
                answer = httpx.post(
                    f"{at or self.settings.api_url}/api/v1/jobs", json=spec(steps, **changes), headers=headers,
                    timeout=10, trust_env=False,
                )  # fmt: skip
                if answer.status_code < 500:
                    assert answer.status_code in (200, 201), answer.text
                    job_id = str(answer.json()["id"])
                    self.acknowledged.append(job_id)
                    return job_id
            except httpx.TransportError:
                pass
            assert time.monotonic() < until, "the service does not come back"
            time.sleep(0.2)

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """One request, repeated while nobody answers."""
        until = time.monotonic() + 300
        while True:
            try:
                url = f"{self.settings.api_url}/api/v1{path}"
                answer = httpx.request(method, url, headers=self.auth(), timeout=10, trust_env=False, **given)
                if answer.status_code < 500:
                    return answer
            except httpx.TransportError:
                pass
            assert time.monotonic() < until, "the service does not come back"
            time.sleep(0.2)

    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {owner_token(self.settings)}"}

    def job(self, job_id: str) -> Any:
        return self.ask("GET", f"/jobs/{job_id}").json()

    def wait_for_state(self, job_id: str, states: Sequence[str], patience: float = 300.0) -> Any:
        """The job once it is in one of these states, None when it has ended otherwise."""
        until = time.monotonic() + patience
        while True:
            job = self.job(job_id)
            if job["state"] in states:
                return job
            if job["state"] in TERMINAL:
                return None
            assert time.monotonic() < until, f"job {job_id} stays {job['state']} ({job['cause']})"
            time.sleep(0.1)

    def wait_for_step(self, job_id: str, step: int, patience: float = 300.0) -> bool:
        """Wait until a job has reported this step; False when it ended before."""
        until = time.monotonic() + patience
        while True:
            job = self.job(job_id)
            if job["step"] >= step and job["state"] == "running":
                return True
            if job["state"] in TERMINAL:
                return False
            assert time.monotonic() < until, f"job {job_id} stays {job['state']} at step {job['step']}"
            time.sleep(0.05)

    def drain(self, patience: float = 1200.0) -> None:
        """Wait until every acknowledged job has ended; looks into the database, so it needs no api."""
        until, told = time.monotonic() + patience, 0.0
        while True:
            with self.database.read() as session:
                left = [
                    job_id for job_id in self.acknowledged
                    if (job := session.get(Job, job_id)) is not None and job.state not in TERMINAL
                ]  # fmt: skip
            if not left:
                return
            if time.monotonic() - told > 20:
                told = time.monotonic()
                self.say(f"{len(left)} of {len(self.acknowledged)} jobs are left")
            assert time.monotonic() < until, f"{len(left)} jobs do not end: {left[:5]}"
            time.sleep(0.3)

    # ------------------------------------------------------------------------------------------- processes

    def kill(self, name: str) -> bool:
        """kill -9 one of the tree's processes, whole session and all; False where it is not there right now."""
        pid = self.tree.pids().get(name)
        if pid is None:
            return False
        try:
            psutil.Process(pid).send_signal(signal.SIGKILL)
        except psutil.Error:
            return False
        return True

    def kill_once_there(self, name: str, patience: float = 30.0) -> bool:
        """`kill`, as soon as the process is there: after a crash it is started again with a growing pause."""
        until = time.monotonic() + patience
        while not self.kill(name):
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True

    def worker(self, job_id: str, patience: float = 60.0) -> psutil.Process | None:
        """The process that trains the newest attempt of a job: the one that holds its outbox open."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            job = self.job(job_id)
            if job["state"] in TERMINAL:
                return None
            if job["attempts"]:
                outbox = str(self.settings.work / job["attempts"][-1]["id"] / "outbox.jsonl")
                for process in supervisors(self.tree.processes()):
                    try:
                        if any(file.path == outbox for file in process.open_files()):
                            return process
                    except psutil.Error:
                        continue
            time.sleep(0.05)
        return None

    # --------------------------------------------------------------------------------------------- promises

    def check(self, outcome: Outcome, *, spares: int = 2) -> None:
        """All invariants on the drained queue; what does not hold is added to the outcome."""
        with self.database.read() as session:
            broken = invariants.check(
                session,
                drained=True,
                acknowledged=self.acknowledged,
                limits=invariants.Limits(cpus=self.cpus),
            )
        outcome.broken += [str(one) for one in broken]
        outcome.broken += self._left_over(spares)
        outcome.broken += self._mirror()
        with self.database.read() as session:
            states = [attempt.state for attempt in session.query(Attempt).all()]
        outcome.counts |= {"jobs": len(set(self.acknowledged)), "attempts": len(states), "lost": states.count("lost")}

    def _left_over(self, spares: int) -> list[str]:
        until = time.monotonic() + QUIET
        while True:
            # (folders of workers that were killed stay for an hour, for a look)
            idle = supervisors(self.tree.processes())
            if len(idle) <= spares:
                return []
            if time.monotonic() > until:
                return [f"I7 after {QUIET:.0f} s: {len(idle)} workers, at most {spares} idle ones expected"]
            time.sleep(1.0)

    def _mirror(self) -> list[str]:
        until = time.monotonic() + QUIET
        while not self.tree.mlflow_ready() or not self._mirrored():
            if time.monotonic() > until:
                return [f"I8 MLflow is not complete after {QUIET:.0f} s"]
            time.sleep(1.0)
        mlflow = Mlflow(self.settings.mlflow_url)
        try:
            return [f"I8 {one}" for one in mirror_check.compare(self.settings, self.database, mlflow)]
        finally:
            mlflow.close()

    def _mirrored(self) -> bool:
        try:
            return self.installation.mirrored()
        except (OSError, ValueError):
            return False


def supervisors(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Ray's worker processes that are (or were made for) supervisors; Ray titles them by their actor."""
    found = []
    for process in processes:
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::Supervisor"):
            found.append(process)
    return found
