"""The disk of the storage, of the database or of the workers is full for a while: it is said, and all goes on after it.

Each of them lies on a small file system of its own (a tmpfs, which takes root) that is filled to the last byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from sqlalchemy import text

from service.models import Artifact
from tests.faults.world import Outcome, Setting, World
from tests.helpers.installation import spec

STEPS = 150
SIZE = "400m"


@contextmanager
def around() -> Iterator[Setting]:
    """Database and storage lie on disks of their own."""
    with tempfile.TemporaryDirectory(prefix="bcd-disks-") as name, ExitStack() as stack:
        database, storage = (stack.enter_context(small_disk(Path(name) / room)) for room in ("database", "storage"))
        settings = {"database_url": f"sqlite:///{database / 'bcd.db'}", "storage_uri": str(storage)}
        yield Setting(settings, {"disks": {"database": database, "storage": storage}})


def run(world: World, times: int, disks: dict[str, Path]) -> Outcome:
    outcome = Outcome("disk full (database, storage, worker)", times)
    with small_disk(world.settings.work) as work:  # nothing is in it yet
        rooms = [*disks.items(), ("worker", work)]
        for i in range(times):
            _one(world, outcome, *rooms[i % len(rooms)], seed=2 * i)
            world.say(f"{i + 1} of {times}: {rooms[i % len(rooms)][0]}")
        world.drain()
        world.check(outcome)
        outcome.broken += _damaged(world)
        world.tree.stop()  # before the disk goes
    return outcome


def _one(world: World, outcome: Outcome, room: str, disk: Path, *, seed: int) -> None:
    jobs = [world.submit(STEPS, seed=seed + n) for n in range(2)]
    world.wait_for_step(jobs[0], world.random.randint(1, 60))
    with full(disk):
        until = time.monotonic() + world.random.uniform(3.0, 10.0)
        while time.monotonic() < until:
            if room == "database" and (wrong := _refusal(world)):
                outcome.broken.append(f"a submission to a full database was answered by {wrong}")
            time.sleep(0.5)
    for job in jobs:
        ended = world.wait_for_state(job, ("succeeded",))
        if ended is None:
            outcome.broken.append(f"job {job} did not outlive a full disk of the {room}")
        elif room != "worker" and len(ended["attempts"]) != 1:
            outcome.broken.append(f"job {job} was started again although only the disk of the {room} was full")


def _refusal(world: World) -> str | None:
    """What was wrong with the refusal; to accept is right too: its files may have had a few bytes left."""
    answer = httpx.post(
        f"{world.settings.api_url}/api/v1/jobs", json=spec(2), headers=world.auth(), timeout=60, trust_env=False
    )
    if answer.is_success:
        world.acknowledged.append(str(answer.json()["id"]))
        return None
    return None if answer.status_code == 503 and "Retry-After" in answer.headers else f"{answer.status_code}"


def _damaged(world: World) -> list[str]:
    """Stored files that are not what their hash says, and a database that is not what it should be."""
    with world.database.read() as session:
        found = [
            f"{artifact.key} is damaged"
            for artifact in session.query(Artifact).all()
            if hashlib.sha256((Path(world.settings.storage_uri) / artifact.key).read_bytes()).hexdigest()
            != artifact.sha256
        ]
        whole = session.scalar(text("PRAGMA integrity_check"))
        return found if whole == "ok" else [*found, f"the database: {whole}"]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is left on this disk."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        yield
    finally:
        ballast.unlink()
