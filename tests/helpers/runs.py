"""Tiny job specs and a sink that remembers, for tests that train for real."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from bcd.spec import JobSpec, parse_spec

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"type": "digits-scenes-v1", "train_images": 32, "val_images": 8, "image_size": 64, "max_size": 40},
    "student": {
        "backbone": "tiny", "width": 8, "fpn_channels": 16, "stacked_convs": 1, "strides": [8, 16],
        "reg_max": 8, "prior_scale": 4,
    },
    "schedule": {
        "steps": 8, "batch_size": 4, "warmup_steps": 2, "log_every": 2, "checkpoint_every": 4, "ema": 0.9,
        "optimizer": {"type": "adamw", "lr": 0.005},
    },
}  # fmt: skip


def tiny_spec(**changes: Any) -> JobSpec:
    """TINY with changes by dotted path: tiny_spec(**{"schedule.steps": 4})."""
    values = copy.deepcopy(TINY)
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return parse_spec(values)


class MemorySink:
    """Remembers what a run reports."""

    def __init__(self) -> None:
        self.values: list[tuple[int, dict[str, float]]] = []
        self.lines: list[tuple[str, str]] = []
        self.phases: list[str] = []
        self.known: dict[str, str] = {}
        self.checkpoints: list[tuple[int, Path]] = []
        self.evaluations: list[tuple[int, str, str, dict[str, Any]]] = []
        self.artifacts: dict[str, tuple[str, Path, int]] = {}

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.values.append((step, dict(values)))

    def log(self, text: str, level: str = "info") -> None:
        self.lines.append((level, text))

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def facts(self, values: dict[str, str]) -> None:
        self.known |= values

    def checkpoint(self, path: Path, step: int) -> None:
        self.checkpoints.append((step, path))

    def artifact(self, type: str, name: str, path: Path, step: int) -> None:
        self.artifacts[name] = (type, path, step)

    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None:
        self.evaluations.append((step, name, protocol, results))

    def series(self, key: str) -> list[float]:
        return [values[key] for _, values in self.values if key in values]
