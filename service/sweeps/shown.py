"""Sweeps as the API shows them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from service.models import Sweep, SweepState
from service.sweeps.events import searched_seconds
from service.sweeps.repository import spec_of
from service.sweeps.schemas import SweepDetail, SweepOut
from service.sweeps.submit import most_trials


def sweep_out(sweep: Sweep, jobs: Mapping[str, int]) -> SweepOut:
    return SweepOut(**_fields(sweep, jobs))


def sweep_detail(sweep: Sweep, jobs: Mapping[str, int]) -> SweepDetail:
    return SweepDetail(**_fields(sweep, jobs), spec=sweep.spec)


def _fields(sweep: Sweep, jobs: Mapping[str, int]) -> dict[str, Any]:
    spec = spec_of(sweep)
    return {
        "id": sweep.id,
        "project": sweep.project_id,
        "name": sweep.name,
        "state": SweepState(sweep.state),
        "cause": sweep.cause,
        "priority": sweep.priority,
        "objectives": [one.metric for one in spec.objectives],
        "search": spec.search.type,
        "scheduler": spec.scheduler.type,
        "most_trials": most_trials(spec),
        "jobs": dict(jobs),
        "searched_seconds": searched_seconds(sweep, time.time()),
        "created_by": sweep.created_by,
        "created_at": sweep.created_at,
        "ended_at": sweep.ended_at,
        "group": sweep.id,
    }
