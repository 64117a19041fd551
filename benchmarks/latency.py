"""From submission to the first training step, and the service's start-up: `python -m benchmarks.latency [--jobs 6]`.

Starts a whole installation (API, dispatcher, Ray, MLflow) in a temporary folder on this machine and ends it again.
Needs the service's packages. The first step's time is the worker's clock at the end of step 1.
"""

from __future__ import annotations

import argparse
import copy
import os
import socket
import statistics
import tempfile
import time
from typing import Any

from benchmarks.timing import heading
from service.client import Client
from service.settings import Settings
from service.up import Tree

JOB: dict[str, Any] = {
    "name": "latency",
    "data": {"type": "digits-scenes-v1", "train_images": 64, "val_images": 8, "image_size": 64, "max_size": 40},
    "student": {"backbone": "tiny", "width": 8, "fpn_channels": 16, "stacked_convs": 1, "strides": [8, 16]},
    "schedule": {"steps": 5, "batch_size": 4, "log_every": 1, "warmup_steps": 1},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def first_step(client: Client, seed: int) -> float:
    """Seconds from just before the POST to the end of step 1."""
    spec = copy.deepcopy(JOB)
    spec["seed"] = seed
    start = time.time()
    job = client.submit(spec)["id"]
    client.wait([job])
    series = client.metrics(job, keys=["loss"])["loss"]
    return series["times"][0] - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=6)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="bcd-latency-") as home:
        settings = Settings.load(home, api_port=free_port(), mlflow_port=free_port(), ray_port=free_port())
        start = time.perf_counter()
        with Tree(settings) as tree:
            tree.wait_ready()
            ready = time.perf_counter() - start
            client = Client.from_settings(settings)
            cold = first_step(client, 0)
            warm = []
            for seed in range(1, arguments.jobs):
                while tree.warm_workers() == 0:
                    time.sleep(0.2)
                warm.append(first_step(client, seed))
            stopping = time.perf_counter()
        stopped = time.perf_counter() - stopping
    print(heading("service"))
    print(f"start to ready                        {ready:6.1f} s")
    print(f"submit to first step, at once         {cold:6.1f} s")
    median, spread = statistics.median(warm), f"[{min(warm):.1f}, {max(warm):.1f}], n {len(warm)}"
    print(f"submit to first step, warm, median    {median:6.1f} s  {spread}")
    print(f"stop                                  {stopped:6.1f} s")


if __name__ == "__main__":
    main()
