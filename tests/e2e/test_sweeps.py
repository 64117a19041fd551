"""A sweep on the real processes: ASHA and TPE, its driver killed on the way, extended, its best spec submitted."""

from __future__ import annotations

import psutil
import pytest

from .conftest import Installation, eventually, spec

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SWEEP = {
    "name": "e2e",
    "job": {
        **spec(30),
        "data": {"type": "digits-scenes-v1", "train_images": 100, "val_images": 10, "image_size": 64, "max_size": 40},
        "evaluation": {"every": 10},
    },
    "space": {
        "schedule.optimizer.lr": {"type": "loguniform", "low": 1e-4, "high": 0.05},
        "student.width": {"type": "choice", "values": [4, 8]},
    },
    "search": {"type": "tpe", "startup": 3},
    "scheduler": {"type": "asha", "grace": 10, "reduction": 2},
    "budget": {"trials": 4},
    "concurrency": 2,
    "promote": {"top": 1, "seeds": 2},
}


def _driver(installation: Installation) -> psutil.Process | None:
    for process in installation.tree.processes():
        try:
            if " ".join(process.cmdline()).startswith("ray::SweepDriver"):
                return process
        except psutil.Error:
            continue
    return None


def _ended(installation: Installation, sweep_id: str) -> dict:
    states = ("succeeded", "failed", "stopped")
    return eventually(lambda: installation.call("GET", f"/sweeps/{sweep_id}"), lambda sweep: sweep["state"] in states)


def test_a_sweep_survives_its_driver_and_is_extended(installation):
    sweep_id = installation.call("POST", "/sweeps", json=SWEEP)["id"]
    jobs = eventually(lambda: installation.call("GET", f"/sweeps/{sweep_id}")["jobs"], lambda jobs: "running" in jobs)
    assert sum(jobs.values()) <= 3
    driver = eventually(lambda: _driver(installation), lambda process: process is not None)
    driver.kill()
    sweep = _ended(installation, sweep_id)
    assert sweep["state"] == "succeeded", sweep
    trials = installation.call("GET", f"/sweeps/{sweep_id}/trials")["items"]
    assert [one["number"] for one in trials if one["seed"] == 0] == [1, 2, 3, 4]
    assert sorted(one["number"] == 0 for one in trials if one["seed"] > 0) == [False, False, True, True]
    for one in trials:
        job = installation.job(one["job_id"])
        assert len(job["attempts"]) == 1, job  # nothing was trained twice
        assert job["group"] == sweep_id
    assert eventually(lambda: _driver(installation), lambda process: process is None) is None

    installation.call("POST", f"/sweeps/{sweep_id}/extend", json={"budget": {"trials": 5}})
    assert _ended(installation, sweep_id)["state"] == "succeeded"
    after = installation.call("GET", f"/sweeps/{sweep_id}/trials")["items"]
    assert [one["number"] for one in after if one["seed"] == 0] == list(range(1, 6))
    assert {one["job_id"] for one in trials} <= {one["job_id"] for one in after}
    report = installation.call("GET", f"/sweeps/{sweep_id}/report")
    assert report["best"]
    assert "has the best mean" in report["sentence"]

    best = installation.call("GET", f"/sweeps/{sweep_id}/best")
    job = installation.finished(installation.call("POST", "/jobs", json=best)["id"])
    assert job["state"] == "succeeded"
    assert installation.series(job["id"], "parameters")["values"][-1] > 1000
