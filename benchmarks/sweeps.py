"""What a sweep adds to its trials, and what ASHA saves: `python -m benchmarks.sweeps overhead|asha|memory`.

overhead  32 trials to their end, two at a time: seconds of a worker's time for a trial beyond its own attempt
asha      a grid of 27 in full against ASHA on the same grid: the best AP and the training steps of both
memory    peak memory of the workers with one and with four trials at a time

Starts a whole installation in a temporary folder on this machine and ends it again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from typing import Any

import psutil

from benchmarks.latency import free_port
from benchmarks.timing import heading
from service.client import Client
from service.settings import Settings
from service.up import Tree

SHORT: dict[str, Any] = {
    "data": {"type": "digits-scenes-v1", "train_images": 400, "val_images": 40, "image_size": 96},
    "student": {
        "backbone": "tiny", "width": 8, "fpn_channels": 24, "stacked_convs": 1, "strides": [8, 16], "reg_max": 8,
        "prior_scale": 4,
    },
    "schedule": {
        "steps": 120, "batch_size": 8, "optimizer": {"type": "adamw", "lr": 0.006}, "warmup_steps": 10, "log_every": 20
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "asha", "memory"))
    what = parser.parse_args().what
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="bcd-sweeps-") as home:
        settings = Settings.load(home, api_port=free_port(), mlflow_port=free_port(), ray_port=free_port())
        with Tree(settings) as tree:
            tree.wait_ready()
            while tree.warm_workers() < 2:
                time.sleep(0.2)
            client = Client.from_settings(settings)
            lines = {"overhead": overhead, "asha": asha, "memory": memory}[what](client, tree)
    print(heading("sweeps"))
    print("\n".join(lines))


def overhead(client: Client, tree: Tree) -> list[str]:
    """Of two slots that are always meant to be busy, what a trial takes beyond its attempt."""
    trials, slots = 32, 2
    sweep = {
        "name": "overhead",
        "job": SHORT,
        "space": {"schedule.optimizer.lr": {"type": "loguniform", "low": 0.001, "high": 0.02}},
        "search": {"type": "tpe"},
        "budget": {"trials": trials},
        "concurrency": slots,
    }
    start = time.time()
    jobs = _run(client, sweep)
    first, last = min(job["created_at"] for job in jobs), max(job["ended_at"] for job in jobs)
    trained = sum(job["ended_at"] - job["started_at"] for job in jobs)
    return [
        f"{len(jobs)} trials on {slots} slots, {(last - first):.0f} s from the first submission to the last end",
        f"one trial trains for                    {trained / trials:5.2f} s (attempt, start to end, mean)",
        f"and takes beyond that                   {(slots * (last - first) - trained) / trials:5.2f} s",
        f"until the first trial is there          {first - start:5.2f} s (driver and Tune start)",
    ]


def asha(client: Client, tree: Tree) -> list[str]:
    """The grid decides what is best; ASHA sees the same 27 combinations."""
    rates = [0.0002, 0.0004, 0.0008, 0.0015, 0.003, 0.006, 0.012, 0.024, 0.05]
    job = {
        **SHORT,
        "schedule": {**SHORT["schedule"], "steps": 960, "batch_size": 16},
        "evaluation": {"every": 40},
        "data": {**SHORT["data"], "train_images": 2000, "val_images": 100},
    }
    sweep = {
        "name": "grid",
        "job": job,
        "space": {
            "schedule.optimizer.lr": {"type": "choice", "values": rates},
            "student.width": {"type": "choice", "values": [4, 8, 12]},
        },
        "search": {"type": "grid"},
        "concurrency": 2,
    }
    out, found = [], {}
    for name, scheduler in (("asha", {"type": "asha", "grace": 40, "reduction": 4}), ("grid", {"type": "none"})):
        start = time.time()
        jobs = _run(client, {**sweep, "name": name, "scheduler": scheduler})
        done = [one for one in jobs if one["state"] == "succeeded"]
        best = max(done, key=_ap)
        steps = sum(one["step"] for one in jobs)
        found[name] = (_ap(best), steps)
        where = best["spec"]["schedule"]["optimizer"]["lr"], best["spec"]["student"]["width"]
        out.append(
            f"{name}: best AP {_ap(best):.2f} at lr {where[0]:g}, width {where[1]}; {steps:,} steps, "
            f"{len(done)} of {len(jobs)} to their end, {time.time() - start:.0f} s"
        )
    # The noise of a seed at the grid's best point.
    spec = {**best["spec"], "name": "noise"}
    ids = [client.submit({**spec, "seed": seed})["id"] for seed in (1, 2, 3)]
    client.wait(ids)
    noise = [_ap(client.job(one)) for one in ids]
    out.append(f"the grid's best point on three other seeds: AP {', '.join(f'{ap:.2f}' for ap in noise)}")
    out.append(f"steps, ASHA over grid: {found['asha'][1] / found['grid'][1]:.3f}")
    return out


def memory(client: Client, tree: Tree) -> list[str]:
    """Proportional set size of the processes that train: what they share is counted once."""
    out = []
    for slots in (1, 4):
        peak, stop = _Peak(tree), threading.Event()
        thread = threading.Thread(target=peak.watch, args=(stop,), daemon=True)
        thread.start()
        job = {
            **SHORT,
            "data": {**SHORT["data"], "train_images": 8000},
            "schedule": {**SHORT["schedule"], "steps": 300},
        }
        sweep = {
            "name": f"memory {slots}",
            "job": {**job, "resources": {"cpus": 1}},
            "space": {"schedule.optimizer.lr": {"type": "loguniform", "low": 0.001, "high": 0.02}},
            "search": {"type": "random"},
            "budget": {"trials": slots},
            "concurrency": slots,
        }
        _run(client, sweep)
        stop.set()
        thread.join()
        out.append(f"{slots} at a time: {peak.workers / 2**20:6.0f} MiB of {peak.count} workers, at the most")
    return out


class _Peak:
    def __init__(self, tree: Tree):
        self._tree = tree
        self.workers = self.count = 0

    def watch(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            total = count = 0
            for process in self._tree.processes():
                try:
                    if " ".join(process.cmdline()).startswith("ray::Supervisor"):
                        total += process.memory_full_info().pss
                        count += 1
                except psutil.Error:
                    continue
            if total > self.workers:
                self.workers, self.count = total, count


def _run(client: Client, sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """Submit a sweep and wait for it; its jobs."""
    made = client.submit_sweep(sweep)
    ended = client.wait_sweep(made["id"], every=0.5)
    assert ended["state"] == "succeeded", ended
    return [dict(client.job(trial["job_id"])) for trial in client.trials(made["id"])]


def _ap(job: dict[str, Any]) -> float:
    return float(job["evaluation"]["AP"])


if __name__ == "__main__":
    main()
