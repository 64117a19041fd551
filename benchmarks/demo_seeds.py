"""Does the demo's gain hold? Trains its teacher, baseline and BCKD student over many seeds, without the service.

Usage: python -m benchmarks.demo_seeds --seeds 5 [--first 0] [--out runs/demo-seeds]
    [--set bckd.methods.0.warmup=0 --set baseline.schedule.steps=1340 ...]
Prints one line for each run and the paired difference with its 95 % interval. The seeds are the demo's own (0, 1, ...);
use --first to look at fresh ones.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from bcd.api import run_job
from bcd.spec import parse_spec

RECIPES = Path(__file__).parent.parent / "recipes"


class Quiet:
    """A sink that reports nothing but warnings."""

    def metrics(self, step: int, values: dict[str, float]) -> None: ...
    def phase(self, name: str) -> None: ...
    def checkpoint(self, path: Path, step: int) -> None: ...
    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None: ...
    def log(self, text: str, level: str = "info") -> None:
        if level != "info":
            print(level, text)


def recipe(name: str, seed: int, changes: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((RECIPES / f"demo-{name}.yaml").read_text())
    values["seed"] = seed
    for change in changes:
        path, text = change.split("=", 1)
        which, *parents, leaf = path.split(".")
        if which not in (name, "all"):
            continue
        place: Any = values
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place[parent]
        place[leaf] = yaml.safe_load(text)
    return values


def train(name: str, seed: int, out: Path, changes: list[str], teacher: Path | None = None) -> float:
    folder, values = out / f"{name}-{seed}", recipe(name, seed, changes)
    if teacher is not None:
        values["teacher"] = {"path": str(teacher)}
    spec = parse_spec(values)
    done = folder / "result.json"
    if not (done.exists() and json.loads(done.read_text())["digest"] == spec.digest()):
        start, cpu = time.perf_counter(), time.process_time()
        result = run_job(spec, workdir=folder, sink=Quiet(), data_cache=out / "cache")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        values = {"digest": spec.digest(), "evaluation": result.evaluation, "seconds": seconds, "cpu": cpu}
        done.write_text(json.dumps(values))
    values = json.loads(done.read_text())
    ap: float = values["evaluation"]["AP"]
    print(f"{name:9s} seed {seed}: AP {ap:5.2f}  ({values['seconds']:.0f} s, {values['cpu']:.0f} CPU-s)", flush=True)
    return ap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--teacher-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/demo-seeds"))
    parser.add_argument("--set", action="append", default=[], metavar="JOB.KEY.PATH=VALUE", dest="changes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out, changes = arguments.out, arguments.changes
    train("teacher", arguments.teacher_seed, out, changes)
    teacher = out / f"teacher-{arguments.teacher_seed}" / "student.safetensors"
    differences = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        baseline = train("baseline", seed, out, changes)
        differences.append(train("bckd", seed, out, changes, teacher) - baseline)
        print(f"          seed {seed}: difference {differences[-1]:+.2f}", flush=True)
    print(summary(differences))


def summary(differences: list[float]) -> str:
    """Mean paired difference with its 95 % t interval."""
    from scipy import stats

    n, values = len(differences), torch.tensor(differences, dtype=torch.float64)
    if n < 3:
        return f"mean difference {values.mean():+.2f} (n = {n}: no interval below 3 seeds)"
    half = stats.t.ppf(0.975, n - 1) * values.std().item() / n**0.5
    mean = values.mean().item()
    return f"mean difference {mean:+.2f} AP, 95 % interval [{mean - half:+.2f}, {mean + half:+.2f}], n = {n}"


if __name__ == "__main__":
    main()
