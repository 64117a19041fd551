"""A generated sweep: so many trials of a made-up landscape, stopped as ASHA would, and its best on more seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from bcd.sweep import parse_sweep
from service.models import GENERATED
from service.seed.rows import METHODS, STUDENTS, TEACHER, Maker, Rows, spec_of

NAME = "generated sweep"


def sweep(maker: Maker, trials: int) -> Iterator[tuple[Rows, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Rows of jobs with those of the sweep and of its trials, in an order in which they can be written."""
    teacher = maker.job(spec_of("generated teacher of a sweep", TEACHER, 0), 38.0)
    base = {**spec_of(NAME, STUDENTS[0], 0, "bckd"), "teacher": {"job": teacher}}
    spec = parse_sweep({
        "name": NAME, "job": base, "budget": {"trials": trials},
        "scheduler": {"type": "asha", "grace": 1000},
        "space": {
            "schedule.optimizer.lr": {"type": "loguniform", "low": 0.001, "high": 0.1},
            "methods.0.cls_weight": {"type": "uniform", "low": 0.0, "high": 4.0},
            "methods.0.loc_weight": {"type": "uniform", "low": 0.0, "high": 8.0},
            "student.backbone": {"type": "choice", "values": ["resnet18", "mobilenet_v3_large"]},
        },
        "promote": {"top": 3, "seeds": 3},
    })  # fmt: skip
    row = {
        "id": "sweep_generated", "project_id": GENERATED, "name": NAME, "spec": spec.canonical(), "state": "succeeded",
        "request_hash": "0" * 64, "priority": 0, "created_by": "seed-demo", "created_at": 1.79e9,
        "ended_at": 1.79e9 + 36_000, "searched": 30_000.0, "epoch": 1, "lease_until": 0.0, "fruitless": 0,
    }  # fmt: skip
    yield maker.take(), [row], []
    found: list[tuple[float, int, dict[str, Any]]] = []
    for number in range(1, trials + 1):
        params: dict[str, Any] = {
            "schedule.optimizer.lr": float(f"{10 ** maker.draw.uniform(-3, -1):.6g}"),
            "methods.0.cls_weight": round(float(maker.draw.uniform(0, 4)), 3),
            "methods.0.loc_weight": round(float(maker.draw.uniform(0, 8)), 3),
            "student.backbone": ["resnet18", "mobilenet_v3_large"][int(maker.draw.integers(2))],
        }
        value = _landscape(params) + maker.noise(0.3)
        kind = "failed" if number % 37 == 0 else "stopped" if value < 29.5 else "succeeded"
        if kind == "succeeded":
            found.append((value, number, params))
        yield _trial(maker, teacher, number, 0, params, value, kind), [], [_row(number, 0, params, kind, value)]
    best = sorted(found, key=lambda one: -one[0])[:3]
    default: dict[str, Any] = {}
    for value, number, params in [*best, (_landscape(default), 0, default)]:
        for seed in range(1, 4):
            again = value - 0.3 + maker.noise(0.4)
            rows = _trial(maker, teacher, number, seed, params, again, "succeeded")
            yield rows, [], [_row(number, seed, params, "succeeded", again)]


def _landscape(params: dict[str, Any]) -> float:
    """AP without noise: best at a rate of 0.02 and weights of 1 and 4."""
    lr = math.log10(params.get("schedule.optimizer.lr", 0.01) / 0.02)
    cls, loc = params.get("methods.0.cls_weight", 1.0) - 1.0, (params.get("methods.0.loc_weight", 4.0) - 4.0) / 4
    small = params.get("student.backbone") == "mobilenet_v3_large"
    value: float = 30.5 + METHODS["bckd"] - 3.0 * lr**2 - 0.5 * cls**2 - 0.8 * loc**2 - (2.0 if small else 0.0)
    return value


def _trial(maker: Maker, teacher: str, number: int, seed: int, params: dict[str, Any], value: float, kind: str) -> Rows:
    spec = spec_of(f"{NAME} #{number}" if number else f"{NAME} default", STUDENTS[0], seed, "bckd")
    spec["schedule"]["optimizer"]["lr"] = params.get("schedule.optimizer.lr", 0.01)
    spec["student"]["backbone"] = params.get("student.backbone", "resnet18")
    method = {"type": "bckd"}
    for name in ("cls_weight", "loc_weight"):
        if f"methods.0.{name}" in params:
            method[name] = params[f"methods.0.{name}"]
    spec["methods"] = [method]
    ends: dict[str, dict[str, Any]] = {
        "succeeded": {},
        "failed": {"state": "failed", "cause": "loss became NaN at step 611", "share": 0.05},
        "stopped": {"state": "cancelled", "cause": _why(value), "share": 0.25},
    }
    maker.job(
        spec, value, teacher=teacher, group="sweep_generated", job_id=f"job_generated_{number}_{seed}", **ends[kind]
    )
    return maker.take()


def _row(number: int, seed: int, params: dict[str, Any], kind: str, value: float) -> dict[str, Any]:
    return {
        "job_id": f"job_generated_{number}_{seed}", "sweep_id": "sweep_generated", "number": number, "seed": seed,
        "params": params, "stopped": _why(value) if kind == "stopped" else None,
    }  # fmt: skip


def _why(value: float) -> str:
    return f"stopped by ASHA at step 3000: AP {value * 0.6:.2f}"
