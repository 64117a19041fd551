"""The answer to a dry run as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from service.cli.render import duration, table


def verdict(answer: Mapping[str, Any]) -> list[RenderableType]:
    """What would run, what it would cost, and what it would wait for."""
    plan, cost, queue = answer["plan"], answer["cost"] or {}, answer["queue"] or {}
    made = table("", "")
    made.show_header = False
    rows = [
        ("student", plan["detector"]),
        ("methods", ", ".join(method["type"] for method in plan["methods"]) or "none: labels alone"),
        ("steps", "known once the data set is read" if plan["steps"] is None else f"{plan['steps']:,}"),
        ("resources", ", ".join(f"{value:g} {name}" for name, value in plan["resources"].items() if value)),
        ("state", plan["state"] + (f", for {', '.join(plan['needs'])}" if plan["state"] == "waiting" else "")),
        ("cost", _cost(cost)),
        ("queue", _queue(queue)),
    ]
    for name, text in rows:
        made.add_row(Text(name, "dim"), Text(str(text)))
    return [made, *(Text(f"warning: {text}", "yellow") for text in answer["warnings"])]


def _cost(cost: Mapping[str, Any]) -> str:
    if cost.get("seconds") is None:
        return str(cost.get("basis") or "not known")
    return f"about {duration(cost['seconds'])} ({cost['basis']})"


def _queue(queue: Mapping[str, Any]) -> str:
    fits, reason = queue.get("fits"), queue.get("reason")
    ahead = queue.get("position")
    text = "" if ahead is None else f"place {ahead} in the queue"
    if fits is False:
        return f"{text}; {reason}" if text else str(reason)
    return text or str(reason or "not known")
