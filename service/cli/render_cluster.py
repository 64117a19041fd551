"""The cluster as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from service.cli.render import age, table


def cluster(answer: Mapping[str, Any], now: float) -> list[RenderableType]:
    """Machines, projects, queue and who leads. `now`: Unix seconds."""
    nodes = table("machine", "state", "CPUs", "GPUs", "memory", "idle workers", right=("CPUs", "GPUs", "memory"))
    for node in answer["nodes"]:
        has = node["total"]
        state = Text("there", "green") if node["alive"] else Text(f"away for {age(now - node['seen_at'])}", "yellow")
        nodes.add_row(
            Text(node["name"]), state, f"{has['cpus']:g}", f"{has['gpus']:g}", f"{has['memory']:.1f} GiB",
            str(node["spares"]),
        )  # fmt: skip
    projects = table("project", "running", "CPUs", "GPUs", "queue", right=("running", "CPUs", "GPUs"))
    for one in answer["projects"]:
        waiting = ", ".join(f"{count} {state}" for state, count in one["queue"].items()) or "-"
        projects.add_row(
            Text(one["project"]), _of(one["jobs"], one["max_jobs"]), f"{one['cpus']:g}",
            _of(one["gpus"], one["max_gpus"]), waiting,
        )  # fmt: skip
    leader = answer["leader"]
    if leader is None:
        last = Text("no dispatcher has run yet: jobs wait", "yellow")
    elif leader["leads"]:
        last = Text(f"dispatched by {leader['holder']}", "dim")
    else:
        last = Text(f"no dispatcher is at work (last one: {leader['holder']}): jobs wait", "yellow")
    return [nodes, projects, last]


def _of(used: float, most: float | None) -> str:
    return f"{used:g}" if most is None else f"{used:g} of {most:g}"
