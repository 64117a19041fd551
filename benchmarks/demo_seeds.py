"""Does the demo's gain hold? Trains its teacher, baseline and BCKD student over many seeds, without the service.

Usage: python -m benchmarks.demo_seeds --seeds 5 [--first 0] [--out runs/demo-seeds]
    [--set bckd.methods.0.warmup=0 --set baseline.schedule.steps=1340 ...]
Prints one line for each run and the paired difference with its 95 % interval. The seeds are the demo's own (0, 1, ...);
use --first to look at fresh ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.campaign import run_once, summary

RECIPES = Path(__file__).parent.parent / "recipes"


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
    values = run_once(values, folder, out / "cache")
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


if __name__ == "__main__":
    main()
