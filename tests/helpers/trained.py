"""A teacher that is really trained, once for a test session and in about ten seconds, and spoilt copies of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import bcd
from bcd.api import run_job
from bcd.models.detector import Detector
from bcd.models.files import save_detector
from tests.helpers.runs import MemorySink, tiny_spec

# Few, large and plain digits: what can be learnt in ten seconds.
EASY: dict[str, Any] = {
    "data.train_images": 600, "data.val_images": 64, "data.min_objects": 1, "data.max_objects": 3,
    "data.texture": 0.0, "data.rotation": 0, "data.min_size": 28,
}  # fmt: skip
_TEACHER: dict[str, Any] = {
    "student.width": 16, "student.fpn_channels": 24, "schedule.steps": 300, "schedule.batch_size": 16,
    "schedule.optimizer.lr": 0.01, "schedule.warmup_steps": 20, "schedule.ema": 0.95, "schedule.checkpoint_every": 1000,
    "seed": 3,
}  # fmt: skip


def train_teacher(folder: Path, cache: Path) -> Path:
    """A sound, small GFL teacher on easy digits (AP50 around 45). Its file."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        spec = tiny_spec(**EASY, **_TEACHER)
        return run_job(spec, workdir=folder, sink=MemorySink(), data_cache=cache).path
    finally:
        torch.set_num_threads(threads)


def untrained(teacher: Path, path: Path) -> Path:
    """The teacher as it was before training, with all that its file says."""
    model = bcd.load_detector(teacher)
    torch.manual_seed(0)
    fresh = bcd.build_detector(**model.info.arguments, class_names=model.info.class_names)
    fresh.info = model.info
    return save_detector(fresh, path)


def shuffled(teacher: Path, path: Path, order: list[int] | None = None) -> Path:
    """The teacher with its classes in another order, under the old names."""
    model = bcd.load_detector(teacher)
    index = torch.tensor(order or [*range(1, model.num_classes), 0])
    with torch.no_grad():
        for parameter in (model.head.cls.weight, model.head.cls.bias):
            parameter.copy_(parameter[index])
    return save_detector(model, path)


def changed(teacher: Path, path: Path, **info: Any) -> Path:
    """The teacher with other fields of its `DetectorInfo`."""
    model: Detector = bcd.load_detector(teacher)
    model.info = replace(model.info, **info)
    return save_detector(model, path)
