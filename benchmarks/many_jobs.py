"""A database with many finished jobs, for benchmarks of lists: realistic in spread, loaded by COPY.

Points are written as they come in real life: a wave of jobs trains side by side, so the rows of one curve lie scattered
over the table. The keys of the big table are built after the load.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from bcd.spec import parse_spec
from service.jobs.describe import columns
from service.results.metrics import lower_is_better

CLASSES = ("car", "person", "bicycle", "dog", "sign")
METRICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "loss", "loss/qfl", "loss/giou", "loss/dfl", "loss/bckd_cls",
    "loss/bckd_loc", "grad_norm", "lr", "images_per_second", *(f"AP/{name}" for name in CLASSES),
)  # fmt: skip
METHODS: tuple[list[str], ...] = (
    [],
    ["bckd"],
    ["ld"],
    ["crosskd"],
    ["pkd"],
    ["bckd", "ld"],
    ["fgd"],
    ["fitnet"],
    ["gi"],
)
METHOD_SHARES = (0.3, 0.3, 0.08, 0.08, 0.08, 0.06, 0.04, 0.04, 0.02)
DATA = (
    {"type": "voc", "root": "/data/voc", "classes": list(CLASSES)},
    {"type": "yolo", "root": "/data/yolo", "data_file": "data.yaml"},
    {"type": "digits-scenes-v1"},
)
DETECTORS = ("gfl", "atss", "fcos")
BACKBONES = ("resnet18", "resnet50", "mobilenet_v3_large", "tiny")
STATES = {"succeeded": 0.86, "failed": 0.08, "cancelled": 0.04, "queued": 0.01, "running": 0.005, "paused": 0.005}
PROJECTS = tuple(f"project-{i}" for i in range(12))
TAGS = ("night", "paper", "old", "baseline", "final", "debug", *(f"topic-{i}" for i in range(34)))
SEEDS, EVERY, WAVE = 5, 50, 64  # seeds of a group; steps between two points; jobs that train side by side
_POINT = np.dtype([
    ("fields", ">i2"), ("a", ">i4"), ("series", ">i8"), ("b", ">i4"), ("step", ">i4"), ("c", ">i4"), ("attempt", ">i2"),
    ("d", ">i4"), ("value", ">f8"), ("e", ">i4"), ("time", ">f8"),
])  # fmt: skip
_HEADER, _TRAILER = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"


@dataclass(frozen=True)
class Size:
    jobs: int
    metrics: int
    points: int

    @property
    def rows(self) -> int:
        return self.jobs * self.metrics * self.points


def load(connection: psycopg.Connection[Any], size: Size, say: Callable[[str], None]) -> list[str]:
    """Fill a migrated, empty database through a connection in autocommit mode. The jobs' ids, oldest first."""
    begin = time.perf_counter()
    draw = np.random.default_rng(0)
    jobs = [_job(draw, number) for number in range(size.jobs)]
    with connection.transaction():
        _copy(connection, "projects", [{"id": name, "description": "", "created_at": 0.0} for name in PROJECTS])
        _copy(connection, "jobs", jobs)
        _copy(connection, "job_tags", _tags(draw, jobs))
        _copy(connection, "attempts", map(_attempt, jobs))
        _copy(connection, "events", (event for job in jobs for event in _events(job)))
        for first, values in _waves(size):
            some = jobs[first : first + WAVE]
            _copy(connection, "series", _series(some, values, first))
            _copy(connection, "evaluations", _evaluations(some, values))
        connection.execute("SELECT setval('series_id_seq', (SELECT max(id) FROM series))")
    say(f"{size.jobs:,} jobs and {size.jobs * size.metrics:,} series after {time.perf_counter() - begin:.0f} s")
    _load_points(connection, size, say)
    connection.execute("VACUUM (ANALYZE)")
    say(f"vacuumed and analyzed, {time.perf_counter() - begin:.0f} s in all")
    return [job["id"] for job in jobs]


def _copy(connection: psycopg.Connection[Any], table: str, rows: Iterable[dict[str, Any]]) -> None:
    rows = iter(rows)
    head = next(rows, None)
    if head is None:
        return
    names = sql.SQL(", ").join(map(sql.Identifier, head))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in chain([head], rows):
            copy.write_row(tuple(row.values()))


# --------------------------------------------------------------------------------------------------- jobs


def _job(draw: np.random.Generator, number: int) -> dict[str, Any]:
    group, seed = divmod(number, SEEDS)
    luck = np.random.default_rng(group)  # what the runs of a group share
    spec, described = _spec(group)
    state = str(draw.choice(list(STATES), p=list(STATES.values())))
    created = 1.76e9 + number * 300.0
    ran, ended = state not in ("queued", "paused"), state in ("succeeded", "failed", "cancelled")
    return {
        "id": f"job_{number:08d}{draw.integers(10**6):06d}",
        "project_id": PROJECTS[min(int(luck.exponential(2.5)), 11)],
        "spec": json.dumps({**spec, "seed": seed}), "state": state,
        "cause": "the loss is not finite at step 812" if state == "failed" else None,
        "wait_reason": "no free GPU" if state == "queued" else None,
        "group_name": f"group-{group}" if luck.random() < 0.5 else None, "priority": int(luck.integers(-1, 3)),
        "retries": 0, "request_hash": "0" * 64, "step": 5000 if ended else 2500 if ran else 0, "total_steps": 5000,
        "created_by": ("ann", "bob", "eve", "robot")[luck.integers(4)], "created_at": created,
        "started_at": created + 60 if ran else None, "ended_at": created + 60 + 7200 * draw.random() if ended else None,
        "epoch": 1, **described, "seed": seed,
    }  # fmt: skip


def _spec(group: int) -> tuple[dict[str, Any], dict[str, str | int]]:
    """The spec of a group's runs and the columns made of it."""
    luck = np.random.default_rng([group, 1])
    method = int(luck.choice(len(METHODS), p=METHOD_SHARES))
    spec, described = _made(method, *(int(luck.integers(len(some))) for some in (DETECTORS, BACKBONES, DATA)))
    name = f"{spec['name']} {group}"
    return {**spec, "name": name}, {**described, "name": name}


@cache
def _made(method: int, detector: int, backbone: int, data: int) -> tuple[dict[str, Any], dict[str, str | int]]:
    methods = [{"type": name} for name in METHODS[method]]
    spec = parse_spec({
        "name": " ".join([*(METHODS[method] or ["baseline"]), BACKBONES[backbone], str(DATA[data]["type"])]),
        "data": DATA[data],
        "student": {"detector": DETECTORS[detector], "backbone": BACKBONES[backbone]},
        **({"teacher": {"path": "/teacher.safetensors"}, "methods": methods} if methods else {}),
        "schedule": {"steps": 5000, "batch_size": 16},
    })  # fmt: skip
    return spec.canonical(), columns(spec)


def _tags(draw: np.random.Generator, jobs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    shares = 1.0 / np.arange(1, len(TAGS) + 1)
    for job in jobs:
        for tag in draw.choice(TAGS, size=draw.integers(0, 4), replace=False, p=shares / shares.sum()):
            yield {"job_id": job["id"], "tag": str(tag)}


def _attempt(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"att_{job['id'][4:]}", "job_id": job["id"], "number": 1, "epoch": 1,
        "state": "lost" if job["ended_at"] is None else job["state"], "actor": job["id"], "cpus": 1, "gpus": 1.0,
        "acked_seq": 0, "lease_until": 0.0, "created_at": job["created_at"],
    }  # fmt: skip


def _events(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for i, (type, data) in enumerate([*[("job.state", {"to": job["state"]})] * 4, *[("job.metrics", {"step": 1})] * 6]):
        yield {
            "time": job["created_at"] + i, "type": type, "job_id": job["id"], "project_id": job["project_id"],
            "actor": "worker", "data": json.dumps(data),
        }  # fmt: skip


# ------------------------------------------------------------------------------------------------- series


def _waves(size: Size) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(number of the first job, values by job, metric and point) of each wave."""
    rise = 1 - np.exp(-np.arange(size.points) / size.points * 4)
    for first in range(0, size.jobs, WAVE):
        draw = np.random.default_rng(first)
        shape = (min(WAVE, size.jobs - first), size.metrics)
        noise = draw.normal(0, 0.3, (*shape, size.points))
        top = draw.normal(36, 5, shape)[..., None]
        values = np.where([not key.startswith("loss") for key in METRICS[: size.metrics]], 1, -1)[None, :, None]
        yield first, np.where(values > 0, top * rise, 0.5 + top / 9 * (1 - rise)) + noise * (1 - rise / 2)


def _series(jobs: list[dict[str, Any]], values: NDArray[np.float64], first: int) -> Iterator[dict[str, Any]]:
    metrics, points = values.shape[1:]
    for i, job in enumerate(jobs):
        for m, key in enumerate(METRICS[:metrics]):
            line = values[i, m]
            best = int(line.argmin() if lower_is_better(key) else line.argmax())
            yield {
                "id": (first + i) * metrics + m + 1, "job_id": job["id"], "key": key, "count": points,
                "last_step": points * EVERY, "last_value": float(line[-1]), "best_step": (best + 1) * EVERY,
                "best_value": float(line[best]),
            }  # fmt: skip


def _evaluations(jobs: list[dict[str, Any]], values: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
    for job, line in zip(jobs, values[:, 0], strict=True):
        if job["state"] == "succeeded":
            scalars = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"), float(line[-1]))
            results = {
                **scalars,
                "per_class": dict.fromkeys(CLASSES, float(line[-1])),
                "images": 5000,
                "objects": 36000,
            }
            yield {
                "id": f"eval_{job['id'][4:]}", "job_id": job["id"], "attempt_id": f"att_{job['id'][4:]}",
                "name": "final", "step": 5000, "protocol": "p", "results": json.dumps(results),
                "created_at": job["ended_at"],
            }  # fmt: skip


def _load_points(connection: psycopg.Connection[Any], size: Size, say: Callable[[str], None]) -> None:
    begin, told = time.perf_counter(), 0.0
    key, foreign = "pk_points", "fk_points_series_id"
    definitions = dict(connection.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conname IN (%s, %s)", (key, foreign)
    ).fetchall())  # fmt: skip
    with connection.transaction():
        connection.execute("TRUNCATE points")  # a table that is new in its transaction needs no log
        for name in (foreign, key):
            connection.execute(f"ALTER TABLE points DROP CONSTRAINT {name}")
        with connection.cursor() as cursor, cursor.copy("COPY points FROM STDIN (FORMAT binary, FREEZE)") as copy:
            copy.write(_HEADER)
            for first, values in _waves(size):
                copy.write(_rows(first, values))
                took = time.perf_counter() - begin
                if took - told > 20:
                    told = took
                    say(f"  {100 * first / size.jobs:.0f} % of {size.rows:,} points after {took:.0f} s")
            copy.write(_TRAILER)
    say(f"{size.rows:,} points after {time.perf_counter() - begin:.0f} s; building their keys")
    with connection.transaction():
        connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
        for name in (key, foreign):
            connection.execute(f"ALTER TABLE points ADD CONSTRAINT {name} {definitions[name]}")
    say(f"keys built after {time.perf_counter() - begin:.0f} s")


def _rows(first: int, values: NDArray[np.float64]) -> bytes:
    """A wave's points in the order of time, in PostgreSQL's binary format."""
    jobs, metrics, points = values.shape
    rows = np.zeros((points, jobs, metrics), _POINT)
    rows["fields"], rows["a"], rows["b"], rows["c"], rows["d"], rows["e"] = 5, 8, 4, 2, 8, 8
    rows["series"] = np.arange(first * metrics + 1, (first + jobs) * metrics + 1).reshape(jobs, metrics)
    rows["step"] = (np.arange(points) + 1)[:, None, None] * EVERY
    rows["attempt"] = 1
    rows["value"] = values.transpose(2, 0, 1)
    rows["time"] = 1.76e9 + first * 300.0 + (np.arange(points) * 60.0)[:, None, None]
    return rows.tobytes()
