"""What each detector and each method costs in a training step, relative to plain GFL training.

Usage: python -m benchmarks.methods_cost [--threads 2] [--repeats 7] [--size 256 320] [--backbone resnet18] [--batch 2]
Times are taken in turns, one step of each row after another, so that a noisy machine disturbs all rows alike; the
ratio is the median of the rows' ratios to the plain step of the same turn. Memory is the peak of a fresh process for
each row (on a GPU, of the allocator), less, on a CPU, its peak in one plain GFL step at 32x32.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

import bcd
from bcd.engine.optim import build_optimizer
from bcd.engine.task import DetectionTask
from bcd.methods import build_method
from bcd.methods.teacher import Teacher
from bcd.spec import SgdSpec, parse_spec
from bcd.types import Targets
from benchmarks.timing import heading

DETECTORS = ("gfl", "atss", "fcos", "retinanet")
METHODS = ("bckd", "sigmoid_kd", "softmax_kd", "ld", "crosskd", "pkd", "fgd", "fitnet", "fine_grained", "gi")
PLAIN = ("gfl", None)
Row = tuple[str, str | None]
ROWS: list[Row] = [(d, None) for d in DETECTORS] + [(d, "bckd") for d in DETECTORS] + [("gfl", m) for m in METHODS[1:]]


def scene(batch: int, height: int, width: int, device: torch.device) -> tuple[torch.Tensor, Targets]:
    """Random images with seven boxes each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)
    corner = torch.rand(batch, 7, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
    side = 12 + torch.rand(batch, 7, 2, generator=generator) * torch.tensor([width * 0.4, height * 0.4])
    targets = Targets(
        torch.cat([corner, corner + side], -1),
        torch.randint(0, 80, (batch, 7), generator=generator),
        torch.ones(batch, 7, dtype=torch.bool),
        torch.tensor([[height, width]] * batch),
    )
    return images.to(device), targets.to(device)


def training_step(row: Row, options: argparse.Namespace, device: torch.device) -> Callable[[], None]:
    """One optimizer step of a detector, distilled by a method from an equal detector, or plain."""
    detector, method = row
    student, teacher = (
        bcd.build_detector(detector, backbone=options.backbone, num_classes=80, frozen_stages=1, norm_eval=True).to(
            device
        )
        for _ in range(2)
    )
    student.train()
    methods = []
    if method is not None:
        spec = parse_spec(
            {
                "data": {"type": "digits-scenes-v1"}, "student": {}, "teacher": {"path": "-"},
                "methods": [{"type": method}],
            }
        ).methods[0]  # fmt: skip
        methods = [build_method(spec, student, teacher).to(device)]
    task = DetectionTask(student, Teacher(teacher, student, device) if methods else None, methods)
    optimizer = build_optimizer([("", model) for model in (student, *methods)], SgdSpec(type="sgd", lr=1e-4))
    images, targets = scene(options.batch, *options.size, device)

    def step() -> None:
        autocast: AbstractContextManager[Any] = (
            torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
        )
        loss = task(images, targets, 0.5, autocast)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def peak_bytes(row: Row, options: argparse.Namespace) -> int:
    """Peak memory of two steps beyond what the process held before them. Runs in a process of its own."""
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training_step(("gfl", None), argparse.Namespace(**{**vars(options), "size": (32, 32)}), device)()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = _highest_rss()
    step = training_step(row, options, device)
    for _ in range(2):
        step()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return _highest_rss() - before


def _highest_rss() -> int:
    """Peak resident bytes of this process. Not getrusage's: that one starts at the size of the parent (Linux)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 320))
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(heading(f"training step of each detector and method, {options.backbone}, {options.batch}x{options.size}"))
    steps = {row: training_step(row, options, device) for row in ROWS}
    seconds: dict[Row, list[float]] = {row: [] for row in ROWS}
    for turn in range(options.repeats + 1):
        for row, step in steps.items():
            start = time.perf_counter()
            step()
            if turn > 0:  # the first turn warms up
                seconds[row].append(time.perf_counter() - start)
    del steps
    print("steps timed; measuring memory", flush=True)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {row: pool.apply(peak_bytes, (row, options)) for row in ROWS}
    print(
        "| detector | method | step, ms [fastest, slowest] | time / plain GFL | peak memory, MB | memory / plain GFL |"
    )
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        took, plain = seconds[row], seconds[PLAIN]
        ratio = statistics.median(a / b for a, b in zip(took, plain, strict=True))
        middle, low, high = (1000 * v for v in (statistics.median(took), min(took), max(took)))
        print(
            f"| {row[0]} | {row[1] or 'labels alone'} | {middle:.0f} [{low:.0f}, {high:.0f}] | {ratio:.2f} "
            f"| {memory[row] / 1e6:.0f} | {memory[row] / memory[PLAIN]:.2f} |"
        )


if __name__ == "__main__":
    main()
