"""The faults by name: what to run, how often in full, and with which settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults import (
    corrupt_checkpoints,
    crash_points,
    cut_off,
    equal_submissions,
    frozen_workers,
    mlflow_outages,
    postgres_kills,
    ray_kills,
    service_kills,
    stops,
    streams,
    worker_kills,
)
from tests.faults.world import Outcome


@dataclass(frozen=True)
class Fault:
    """`full`: how often it is done by `make faults`."""

    run: Callable[..., Outcome]  # (world, times) and, with `postgres`, `server`
    full: int
    settings: dict[str, Any] = field(default_factory=dict)
    postgres: bool = False  # the database is a PostgreSQL server of its own
    starts_itself: bool = False  # it is given a world that is not started yet


FAULTS: dict[str, Fault] = {
    "service-kills": Fault(service_kills.run, 50),
    "crash-points": Fault(crash_points.run, 5, starts_itself=True),
    "worker-kills": Fault(worker_kills.run, 50),
    "ray-kills": Fault(ray_kills.run, 10),
    "mlflow-outages": Fault(mlflow_outages.run, 10),
    "postgres-kills": Fault(postgres_kills.run, 10, postgres=True),
    "corrupt-checkpoints": Fault(corrupt_checkpoints.run, 100),
    "frozen-workers": Fault(frozen_workers.run, 10),
    "cut-off": Fault(cut_off.run, 10),
    "stops": Fault(stops.run, 50),
    "equal-submissions": Fault(equal_submissions.run, 3),
    "streams": Fault(streams.run, 1000),
}
