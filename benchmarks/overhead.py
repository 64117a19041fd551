"""What the service adds to a job: the same spec by `bcd train` and through the service, in turns.

`python -m benchmarks.overhead [--steps 1500] [--rounds 3]`. Starts a whole installation (API, dispatcher, Ray,
MLflow) in a temporary folder. Both are timed as a person waits: from the command, or the submission, to the end
(results stored, checkpoint kept). The idle installation is up while `bcd train` runs, so both share the machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.latency import free_port
from benchmarks.timing import heading
from service.client import Client
from service.settings import Settings
from service.up import Tree

JOB: dict[str, Any] = {
    "name": "overhead",
    "data": {"type": "digits-scenes-v1", "train_images": 256, "val_images": 64, "image_size": 96, "max_size": 60},
    "student": {"backbone": "tiny", "width": 8, "fpn_channels": 16, "stacked_convs": 1, "strides": [8, 16]},
    "schedule": {"batch_size": 8, "log_every": 20, "warmup_steps": 20},
    "resources": {"cpus": 1},
}


def alone(spec: dict[str, Any], folder: Path) -> float:
    """Seconds that `bcd train` takes."""
    file = folder / "spec.json"  # JSON is YAML
    file.write_text(json.dumps(spec))
    start = time.perf_counter()
    command = [sys.executable, "-m", "service.cli", "train", str(file), "--out", str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - start


def served(spec: dict[str, Any], client: Client) -> float:
    """Seconds from just before the submission until the client knows that the job has succeeded."""
    start = time.perf_counter()
    job = client.submit(spec)["id"]
    (ended,) = client.wait([job]).values()
    if ended["state"] != "succeeded":
        raise SystemExit(f"the job {ended['state']}: {ended['cause']}")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="bcd-overhead-") as name:
        settings = Settings.load(
            Path(name) / "home", api_port=free_port(), mlflow_port=free_port(), ray_port=free_port()
        )
        with Tree(settings) as tree:
            tree.wait_ready()
            client = Client.from_settings(settings)
            pairs = []
            for number in range(arguments.rounds):
                spec = copy.deepcopy(JOB)
                spec["schedule"]["steps"], spec["seed"] = arguments.steps, number
                folder = Path(name) / f"alone-{number}"
                folder.mkdir()
                while tree.warm_workers() == 0:
                    time.sleep(0.2)
                pairs.append((alone(spec, folder), served(spec, client)))
                print("bcd train {:.1f} s, through the service {:.1f} s".format(*pairs[-1]), flush=True)
    ratios = [service / train for train, service in pairs]
    print(heading("service"))
    print(f"bcd train, median             {statistics.median(train for train, _ in pairs):6.1f} s")
    print(f"through the service, median   {statistics.median(service for _, service in pairs):6.1f} s")
    print(f"ratio, median                 {statistics.median(ratios):6.3f}   [{min(ratios):.3f}, {max(ratios):.3f}]")


if __name__ == "__main__":
    main()
