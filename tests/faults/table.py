"""The faults by name: what to run, how often in full, and in which setting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tests.faults import (
    corrupt_checkpoints,
    crash_points,
    cut_off,
    disk_full,
    equal_submissions,
    frozen_workers,
    mlflow_outages,
    postgres_kills,
    ray_kills,
    replicas,
    service_kills,
    stops,
    streams,
    sweep_kills,
    worker_kills,
)
from tests.faults.world import Outcome, Setting


@dataclass(frozen=True)
class Fault:
    """`full`: how often it is done by `make faults`."""

    run: Callable[..., Outcome]  # (world, times, what `around` gives besides)
    full: int
    around: Callable[[], AbstractContextManager[Setting]] = lambda: nullcontext(Setting())


FAULTS: dict[str, Fault] = {
    "service-kills": Fault(service_kills.run, 50),
    "crash-points": Fault(crash_points.run, 5, crash_points.around),
    "worker-kills": Fault(worker_kills.run, 50),
    "ray-kills": Fault(ray_kills.run, 10),
    "mlflow-outages": Fault(mlflow_outages.run, 10),
    "postgres-kills": Fault(postgres_kills.run, 10, postgres_kills.around),
    "corrupt-checkpoints": Fault(corrupt_checkpoints.run, 100),
    "frozen-workers": Fault(frozen_workers.run, 10),
    "cut-off": Fault(cut_off.run, 10),
    "disk-full": Fault(disk_full.run, 20, disk_full.around),
    "replicas": Fault(replicas.run, 20, replicas.around),
    "stops": Fault(stops.run, 50),
    "equal-submissions": Fault(equal_submissions.run, 3),
    "streams": Fault(streams.run, 1000),
    "sweep-kills": Fault(sweep_kills.run, 20),
}
