"""What cannot run, or not now, and why, in words for the people who wait."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.dispatch.backend import Needs, NodeInfo
from service.dispatch.rooms import KINDS, Room, of_each_process

MANY = 200  # jobs ahead; behind them nobody counts


@dataclass(frozen=True)
class Quota:
    """What a project may have at once; None: no limit."""

    jobs: int | None = None
    gpus: float | None = None


@dataclass
class Count:
    jobs: int = 0
    gpus: float = 0.0

    def add(self, needs: Needs) -> None:
        self.jobs += 1
        self.gpus += needs.gpus


def why_too_large(needs: Needs, nodes: Sequence[NodeInfo]) -> str | None:
    """What a job needs that these nodes do not have even when they are empty, and what to change; None: it fits."""
    process = of_each_process(needs)
    rooms = [Room(node) for node in nodes]
    if sum(room.holds(process) for room in rooms) >= needs.processes:
        return None
    for kind in KINDS:
        if sum(room.count(process, kind) for room in rooms) < needs.processes:
            return _needs_too_much(kind, needs, nodes)
    what = " and ".join(amount(kind, getattr(needs, kind)) for kind in KINDS if getattr(needs, kind))
    return f"needs {what}, and no node has all of it: lower resources, or add such a node"


def _needs_too_much(kind: str, needs: Needs, nodes: Sequence[NodeInfo]) -> str:
    need = getattr(needs, kind)
    one = needs.processes == 1 and len(nodes) > 1
    has = [getattr(node, kind) for node in nodes]
    most = max(has, default=0) if one else sum(has)
    where = f"the largest node has {most:.4g}" if one and most else _there_is(kind, most)
    if kind == "gpus":
        return f"needs {amount(kind, need)} and {where}: set resources.gpus to {most:.4g}, or add a node with GPUs"
    if kind == "cpus":
        return (
            f"needs {amount(kind, need)} and {where}: lower resources.cpus, and resources.processes where it is given"
        )
    return f"needs {amount(kind, need)} and {where}: lower resources.memory"


def _there_is(kind: str, most: float) -> str:
    if not most:
        return "there is none"
    return f"there {'is' if most == 1 else 'are'} {most:.4g}"


def behind_many() -> str:
    return f"waits with more than {MANY} jobs ahead"


def over_quota(project: str, quota: Quota, needs: Needs, running: Count, line: Count) -> str | None:
    """Why a project may start no such job now: what it has running, and in line before this one; None: it may."""
    if quota.jobs is not None and running.jobs + line.jobs >= quota.jobs:
        if not quota.jobs:
            return f"project {project} may run no jobs (quota)"
        where = "running" if running.jobs >= quota.jobs else "running or next in line"
        return f"project {project} has its {quota.jobs} {'job' if quota.jobs == 1 else 'jobs'} {where} (quota)"
    used, need = running.gpus + line.gpus, needs.gpus
    if quota.gpus is not None and need and used + need > quota.gpus + 1e-6:
        return f"project {project} uses {used:g} of its {quota.gpus:g} GPUs (quota), and this job needs {need:g}"
    return None


def amount(kind: str, count: float) -> str:
    """`2 GPUs`, `0.5 of a GPU`, `4 CPUs`, `16 GiB of memory`."""
    if kind == "memory":
        return f"{count:g} GiB of memory"
    if kind == "gpus" and count < 1:
        return f"{count:g} of a GPU"
    return f"{count:g} {'GPU' if kind == 'gpus' else 'CPU'}{'' if count == 1 else 's'}"


def clock_time(moment: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(moment))
