"""What campaigns of many runs share: a quiet sink, finished runs that are not repeated, statistics."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from bcd.api import run_job
from bcd.spec import parse_spec


class Quiet:
    """A sink that reports nothing but warnings."""

    def metrics(self, step: int, values: dict[str, float]) -> None: ...
    def phase(self, name: str) -> None: ...
    def facts(self, values: dict[str, str]) -> None: ...
    def checkpoint(self, path: Path, step: int) -> None: ...
    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None: ...
    def artifact(self, type: str, name: str, path: Path, step: int) -> None: ...
    def log(self, text: str, level: str = "info") -> None:
        if level != "info":
            print(level, text, flush=True)


def run_once(values: dict[str, Any], folder: Path, cache: Path) -> dict[str, Any]:
    """Run a job, or read the result of an equal job that ran in this folder before.

    Returns `evaluation`, `seconds` and `cpu` seconds (of this process), and `path` of the student.
    """
    spec = parse_spec(values)
    done = folder / "result.json"
    if not (done.exists() and json.loads(done.read_text())["digest"] == spec.digest()):
        start, cpu = time.perf_counter(), time.process_time()
        result = run_job(spec, workdir=folder, sink=Quiet(), data_cache=cache)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        found = {
            "digest": spec.digest(), "evaluation": result.evaluation, "seconds": seconds, "cpu": cpu,
            "path": str(result.path),
        }  # fmt: skip
        done.write_text(json.dumps(found))
    return json.loads(done.read_text())  # type: ignore[no-any-return]


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Mean of paired differences with its 95 % t interval (n >= 3)."""
    from scipy import stats

    n = len(differences)
    mean = sum(differences) / n
    sd = (sum((d - mean) ** 2 for d in differences) / (n - 1)) ** 0.5
    half = float(stats.t.ppf(0.975, n - 1)) * sd / n**0.5
    return mean, mean - half, mean + half


def summary(differences: list[float]) -> str:
    """The interval in words."""
    n = len(differences)
    if n < 3:
        return f"mean difference {sum(differences) / n:+.2f} (n = {n}: no interval below 3 seeds)"
    mean, low, high = interval(differences)
    return f"mean difference {mean:+.2f} AP, 95 % interval [{low:+.2f}, {high:+.2f}], n = {n}"
