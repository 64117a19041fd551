"""Timing shared by the benchmarks: medians with spread, and a line that names the machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

import torch


def measure(run: Callable[[], object], *, repeats: int, warmup: int = 2) -> tuple[float, float, float]:
    """(median, fastest, slowest) seconds of `run`; waits for the GPU where there is one."""
    times = []
    for i in range(warmup + repeats):
        _wait()
        start = time.perf_counter()
        run()
        _wait()
        if i >= warmup:
            times.append(time.perf_counter() - start)
    return statistics.median(times), min(times), max(times)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def heading(title: str) -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    date = datetime.now(UTC).date()
    return f"{title} ({date}; {device}; {torch.get_num_threads()} threads; torch {torch.__version__})"


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
