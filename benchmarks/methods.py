"""Every method on equal terms: one teacher, students paired by seed, on generated digits and on BCCD's blood cells.

Usage: python -m benchmarks.methods --data digits|few-labels [--seeds 3] [--only bckd,ld]
       python -m benchmarks.methods --data bccd --root PATH/TO/bccd
Weights are the published ones; nothing is tuned. Prints one line for each run and a table; finished runs are not
repeated. Runs are separate processes with one thread each.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from benchmarks.campaign import interval, run_once
from benchmarks.timing import heading

UNLABELED = "bckd (unlabelled too)"
GFL = {"detector": "gfl", "backbone": "tiny", "stacked_convs": 1, "reg_max": 8}
ADAMW = {"optimizer": {"type": "adamw", "lr": 0.006, "weight_decay": 0.05}, "ema": 0.99}
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {
        "data": {"type": "digits-scenes-v1", "train_images": 4000, "val_images": 400, "image_size": 96},
        "student": {**GFL, "width": 8, "fpn_channels": 24, "strides": [8, 16], "prior_scale": 4},
        "teacher": {"width": 16, "fpn_channels": 40},
        "schedule": {**ADAMW, "steps": 1200, "batch_size": 16, "warmup_steps": 100},
    },
    "bccd": {
        "data": {
            "type": "voc", "classes": ["RBC", "WBC", "Platelets"], "on_invalid": "skip", "image_size": [192, 256],
            "augment": {"flip": 0.5, "color": 0.2},
        },
        "student": {**GFL, "width": 8, "fpn_channels": 24, "strides": [8, 16], "prior_scale": 4},
        "teacher": {"width": 16, "fpn_channels": 48},
        "schedule": {**ADAMW, "steps": 300, "batch_size": 8, "warmup_steps": 50},
    },
}  # fmt: skip
SETTINGS["few-labels"] = {**SETTINGS["digits"], "student_data": {"max_train_images": 200}}
BASELINE = "labels alone"
ALONE = ("bckd", "sigmoid_kd", "softmax_kd", "ld", "crosskd", "pkd", "fgd", "fitnet", "fine_grained", "gi")
METHODS: dict[str, list[dict[str, Any]]] = {
    BASELINE: [],
    **{name: [{"type": name}] for name in ALONE},
    # The published weights drown the task loss of a detector this small.
    "fgd (a twentieth)": [{"type": "fgd", "weight": 0.05}],
    "bckd (classes only)": [{"type": "bckd", "loc_weight": 0}],
    "bckd (boxes only)": [{"type": "bckd", "cls_weight": 0}],
    UNLABELED: [{"type": "bckd"}],
}
# few-labels: the teacher has seen 4,000 labelled scenes, the students 200, and one of them 4,000 more without labels.
WANTED = {
    "digits": [m for m in METHODS if m != UNLABELED],
    "bccd": [BASELINE, *ALONE],
    "few-labels": [BASELINE, "bckd", UNLABELED],
}
WARMUP = 0.2  # of the run, for every method alike: untrained students and large distillation losses do not go together


def job(setting: dict[str, Any], method: str, seed: int, teacher: Path | None) -> dict[str, Any]:
    """The spec of one cell of the table; without a teacher and as "teacher", the teacher's own."""
    setting = copy.deepcopy(setting)
    larger, student_data = setting.pop("teacher"), setting.pop("student_data", {})
    values = {**setting, "name": method, "seed": seed, "resources": {"cpus": 1}}
    values["schedule"] = {"checkpoint_every": 10_000, "log_every": 100, **values["schedule"]}
    if method == "teacher":
        values["student"] |= larger
    else:
        values["data"] |= student_data
    if method == UNLABELED:
        values["data"]["unlabeled"] = {"images": 4000, "share": 0.5}
    if METHODS.get(method):
        values["teacher"] = {"path": str(teacher)}
        values["methods"] = [{"warmup": WARMUP, **one} for one in METHODS[method]]
    return values


def _plain(name: str) -> str:
    """A name as part of a path."""
    return "-".join("".join(c if c.isalnum() or c == "_" else " " for c in name).split())


def cell(values: dict[str, Any], folder: Path, cache: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    return run_once(values, folder, cache)


def table(found: dict[str, dict[int, dict[str, Any]]], teacher_ap: float) -> str:
    lines = [
        "| method | AP (mean, sd) | difference to labels alone [95 %] | by seed | CPU-s |",
        "|---|---|---|---|---|",
    ]
    base = {seed: run["evaluation"]["AP"] for seed, run in found[BASELINE].items()}
    for method, runs in found.items():
        ap = torch.tensor([run["evaluation"]["AP"] for run in runs.values()], dtype=torch.float64)
        cpu = sum(run["cpu"] for run in runs.values()) / len(runs)
        row = f"| {method} | {ap.mean():.1f}, {ap.std():.1f} |" if len(ap) > 1 else f"| {method} | {ap.mean():.1f} |"
        differences = [run["evaluation"]["AP"] - base[seed] for seed, run in runs.items() if seed in base]
        if method != BASELINE and len(differences) >= 3:
            mean, low, high = interval(differences)
            by_seed = " ".join(f"{d:+.1f}" for d in differences)
            row += f" {mean:+.1f} [{low:+.1f}, {high:+.1f}] | {by_seed} |"
        else:
            row += " | |"
        lines.append(f"{row} {cpu:.0f} |")
    return "\n".join([f"teacher: {teacher_ap:.1f} AP", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(SETTINGS), default="digits")
    parser.add_argument("--root", help="folder of BCCD")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, help="other than the setting's")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="methods, separated by commas; the baseline always runs")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    arguments = parser.parse_args()
    setting = copy.deepcopy(SETTINGS[arguments.data])
    if arguments.data == "bccd":
        if not arguments.root:
            parser.error("--data bccd needs --root, the folder of the BCCD data set")
        setting["data"]["root"] = arguments.root
    if arguments.steps:
        setting["schedule"]["steps"] = arguments.steps
    wanted = [m for m in WANTED[arguments.data] if not arguments.only or m in (BASELINE, *arguments.only.split(","))]
    out = arguments.out / arguments.data
    print(heading(f"methods on {arguments.data}"), flush=True)
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        teacher = pool.submit(cell, job(setting, "teacher", 0, None), out / "teacher", out / "cache").result()
        print(f"teacher: {teacher['evaluation']['AP']:.1f} AP, {teacher['cpu']:.0f} CPU-s", flush=True)
        path, found = Path(teacher["path"]), {method: {} for method in wanted}
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        waiting = {}
        for seed in seeds:
            for method in wanted:
                folder = out / f"{_plain(method)}-{seed}"
                task = pool.submit(cell, job(setting, method, seed, path), folder, out / "cache")
                waiting[task] = (method, seed)
        for task in as_completed(waiting):
            (method, seed), run = waiting[task], task.result()
            found[method][seed] = run
            print(f"{method:20s} seed {seed}: AP {run['evaluation']['AP']:5.2f} ({run['cpu']:.0f} CPU-s)", flush=True)
    found = {method: dict(sorted(runs.items())) for method, runs in found.items()}
    print(table(found, teacher["evaluation"]["AP"]))


if __name__ == "__main__":
    main()
