"""kill -9 of training processes at random steps: the next attempt goes on, and the result is the same to the bit."""

from __future__ import annotations

import hashlib

from safetensors.numpy import load_file

from tests.faults.world import Outcome, World

STEPS = 120  # a checkpoint every 10


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("kill -9 a training process", times)
    reference = result_of(world, world.submit(STEPS, seed=1))
    done = 0
    while done < times:
        job = world.submit(STEPS, seed=1)
        for _ in range(min(world.random.randint(1, 3), times - done)):
            step = int(world.job(job)["step"])
            if not world.wait_for_step(job, min(STEPS - 5, step + world.random.randint(1, 50))):
                break
            worker = world.worker(job)
            if worker is None:
                break
            worker.kill()
            worker.wait(30)
            done += 1
        if result_of(world, job) != reference:
            outcome.broken.append(f"job {job} ended with other weights than an uninterrupted run")
        world.say(f"{done} of {times} workers killed")
    outcome.counts["equal results"] = len(world.acknowledged) - len(outcome.broken)
    world.drain()
    world.check(outcome)
    return outcome


def result_of(world: World, job: str) -> str:
    """The hash of the weights of a job's result once it has ended (files also hold when they were made)."""
    ended = world.wait_for_state(job, ("succeeded", "failed", "cancelled"), patience=600)
    assert ended is not None
    assert ended["state"] == "succeeded", (ended["state"], ended["cause"])
    files = world.ask("GET", f"/jobs/{job}/artifacts").json()["items"]
    result = next(file for file in files if file["type"] == "result")
    assert world.settings.storage is not None
    tensors = load_file(world.settings.storage / "objects" / result["sha256"][:2] / result["sha256"])
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].tobytes())
    return digest.hexdigest()
