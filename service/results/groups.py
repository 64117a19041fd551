"""Runs that are drawn as one line: what they share, and their mean and spread in each bucket, from raw values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.results.curves import Buckets, Floats

UNSHARED = ("name", "seed")  # what runs of one spec may differ in


class Averaged(NamedTuple):
    """Buckets over several runs: of each run counts its last value in the bucket; low and high are of all points."""

    x: Floats
    mean: Floats
    std: list[float | None]
    n: NDArray[np.int64]
    low: Floats
    high: Floats


def shared(grouping: str, job: Any) -> str:
    """What a job (a row with the columns of all groupings) shares with those of its group, as the group's name."""
    methods = ", ".join(name for name in job.methods.split(",") if name) or "none"
    if grouping == "spec":
        return f"{methods}, {job.detector}, {job.dataset} ({_digest(job.spec)[:8]})"
    plain = {
        "method": methods, "seed": job.seed, "detector": job.detector, "dataset": job.dataset,
        "group": job.group, "project": job.project_id, "teacher": job.teacher_job_id,
    }  # fmt: skip
    value = plain[grouping]
    return "none" if value is None else str(value)


def averaged(members: Sequence[Buckets]) -> Averaged:
    """Mean and sample deviation over the runs in each bucket that any of them has."""
    numbers = np.concatenate([one.number for one in members])
    order = np.argsort(numbers, kind="stable")
    _, begins, n = np.unique(numbers[order], return_index=True, return_counts=True)
    x, last, low, high = (
        np.concatenate([getattr(one, name) for one in members])[order] for name in ("x", "last", "low", "high")
    )
    mean = np.add.reduceat(last, begins) / n
    squares = np.add.reduceat((last - np.repeat(mean, n)) ** 2, begins)
    return Averaged(
        x=np.maximum.reduceat(x, begins),
        mean=mean,
        std=[None if one < 2 else float((square / (one - 1)) ** 0.5) for square, one in zip(squares, n, strict=True)],
        n=n,
        low=np.minimum.reduceat(low, begins),
        high=np.maximum.reduceat(high, begins),
    )


def _digest(spec: dict[str, Any]) -> str:
    plain = {key: value for key, value in spec.items() if key not in UNSHARED}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
