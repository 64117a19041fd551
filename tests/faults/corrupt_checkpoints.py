"""The newest checkpoint truncated, bit-flipped, emptied or gone while its job is paused: found by its hash, never
loaded; the job goes on from the one before and ends with the same weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.faults.worker_kills import result_of
from tests.faults.world import Outcome, World

STEPS = 60


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("newest checkpoint damaged", times)
    reference = result_of(world, world.submit(STEPS, seed=1))
    fell_back = done = 0
    while done < times:
        # a name of its own keeps its checkpoints apart from those of the other jobs, which have the same content
        job = world.submit(STEPS, seed=1, name=f"damaged-{done}")
        if not world.wait_for_step(job, world.random.randint(12, 45)):
            continue
        world.ask("POST", f"/jobs/{job}/pause")
        if world.wait_for_state(job, ("paused",)) is None:
            continue
        _damage(world, job, done)
        done += 1
        world.ask("POST", f"/jobs/{job}/resume")
        if result_of(world, job) != reference:
            outcome.broken.append(f"job {job} ended with other weights")
        lines = world.ask("GET", f"/jobs/{job}/logs", params={"limit": 5000}).json()["lines"]
        told = any("falling back" in line["text"] for line in lines)
        fell_back += told
        if not told:
            outcome.broken.append(f"job {job}: nobody told that its checkpoint was damaged")
        world.say(f"{done} of {times}")
    outcome.counts["fell back"] = fell_back
    world.drain()
    world.check(outcome)
    return outcome


def _damage(world: World, job: str, kind: int) -> None:
    files = world.ask("GET", f"/jobs/{job}/artifacts").json()["items"]
    newest = max((file for file in files if file["type"] == "checkpoint"), key=lambda file: file["step"])
    assert world.settings.storage is not None
    path = Path(world.settings.storage) / "objects" / newest["sha256"][:2] / newest["sha256"]
    content = path.read_bytes()
    aside = path.with_suffix(".harm")
    if kind % 4 == 0:
        aside.write_bytes(content[: world.random.randrange(1, len(content))])
    elif kind % 4 == 1:
        place = world.random.randrange(len(content))
        aside.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif kind % 4 == 2:
        aside.write_bytes(b"")
    else:
        path.unlink()
        return
    shutil.move(aside, path)
