"""Jobs that two processes train together, through Ray Train: they end well, whichever process dies on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from bcd.api import run_job
from bcd.spec import parse_spec
from service.up import ray_folder
from tests.helpers.runs import MemorySink

from .conftest import Installation, eventually
from .test_service import assert_whole, listening

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LONG = 200  # steps; long enough to be hit in the middle
TWO = {"resources": {"cpus": 2, "processes": 2}}


def submit(installation: Installation, steps: int, **changes: Any) -> str:
    return installation.submit(steps, **TWO, **changes)


def of_ray_train(installation: Installation, *kinds: str) -> list[psutil.Process]:
    """The processes that Ray Train has started, or those of certain kinds."""
    known = ("DashboardAgent", "RuntimeEnvAgent", "Supervisor", "IDLE")
    found = []
    for process in installation.tree.processes():
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        kind = title.removeprefix("ray::").strip()
        if title.startswith("ray::") and (kind.startswith(kinds) if kinds else not kind.startswith(known)):
            found.append(process)
    return found


def training(installation: Installation, job_id: str) -> list[psutil.Process]:
    """The two processes that train a job, once a checkpoint is there to go on from."""
    installation.wait(job_id, lambda _: installation.artifacts(job_id, "checkpoint"))
    found = of_ray_train(installation, "RayTrainWorker")
    assert len(found) == 2
    return found


def gone(installation: Installation) -> bool:
    return eventually(lambda: of_ray_train(installation), lambda left: left == []) == []


def texts(installation: Installation, job_id: str) -> list[str]:
    return [line["text"] for line in installation.call("GET", f"/jobs/{job_id}/logs")["lines"]]


def test_two_processes_make_what_they_make_without_ray_also_when_the_dispatcher_is_killed(installation, tmp_path):
    job_id = submit(installation, LONG, seed=1)
    installation.wait(job_id, lambda job: job["step"] > 0)
    assert set().union(*map(listening, of_ray_train(installation))) == {"127.0.0.1"}
    psutil.Process(installation.tree.pids()["dispatcher"]).kill()
    job = installation.finished(job_id)
    assert [attempt["state"] for attempt in job["attempts"]] == ["succeeded"]
    assert_whole(installation, job_id, LONG)
    assert gone(installation)

    [result] = installation.artifacts(job_id, "result")
    stored = installation.settings.storage / f"objects/{result['sha256'][:2]}/{result['sha256']}"
    spec = parse_spec(job["spec"])
    cache = installation.settings.data_cache
    alone = load_file(run_job(spec, workdir=tmp_path, sink=MemorySink(), data_cache=cache).path)
    together = load_file(stored)
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(together[name], value), name


def test_a_cancelled_job_leaves_a_checkpoint_and_no_process(installation):
    schedule = {"steps": 100_000, "batch_size": 8, "checkpoint_every": 50_000, "log_every": 1, "warmup_steps": 2}
    job_id = submit(installation, 0, seed=2, schedule=schedule)
    installation.wait(job_id, lambda job: job["step"] > 0)
    installation.call("POST", f"/jobs/{job_id}/cancel")
    job = installation.finished(job_id)
    assert (job["state"], [attempt["state"] for attempt in job["attempts"]]) == ("cancelled", ["cancelled"])
    [checkpoint] = installation.artifacts(job_id, "checkpoint")
    assert 0 < checkpoint["step"] <= installation.series(job_id, "loss")["steps"][-1]
    assert gone(installation)


def test_a_killed_process_is_a_fault_of_the_machine_and_the_next_attempt_goes_on(installation):
    job_id = submit(installation, LONG, seed=3)
    training(installation, job_id)[1].kill()
    job = installation.finished(job_id)
    assert [attempt["state"] for attempt in job["attempts"]] == ["failed", "succeeded"]
    assert "of 2 ended without a word" in job["attempts"][0]["cause"]
    assert any(text.startswith("resumed at step") for text in texts(installation, job_id))
    assert_whole(installation, job_id, LONG)


def test_a_killed_supervisor_takes_its_processes_with_it_and_the_next_attempt_goes_on(installation):
    job_id = submit(installation, LONG, seed=4)
    processes = training(installation, job_id)
    installation.worker(job_id).kill()
    psutil.wait_procs(processes, timeout=60)
    assert not any(process.is_running() for process in processes)
    job = installation.finished(job_id)
    assert [attempt["state"] for attempt in job["attempts"]] == ["lost", "succeeded"]
    assert any(text.startswith("resumed at step") for text in texts(installation, job_id))
    assert_whole(installation, job_id, LONG)


def test_in_the_end_nothing_is_left_over(installation):
    assert gone(installation)
    eventually(lambda: list(installation.settings.work.iterdir()), lambda folders: folders == [])
    assert not (Path.home() / "ray_results").exists()
    assert ray_folder(installation.settings).exists()  # and with the tree it goes
