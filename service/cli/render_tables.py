"""Tables of results as tables and lines. Pure functions, as `service.cli.render`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from service.cli.render import NOTHING, age, table

_STYLES = {"reproduced": "green", "below": "red", "above": "yellow"}
_SIGNS = {"done": "✓", "under way": "…", "failed": "✗", "stale": "~", "missing": "·"}


def tables_table(tables: Sequence[Mapping[str, Any]], now: float) -> RenderableType:
    made = table("id", "name", "project", "changed", right=("changed",))
    for one in tables:
        made.add_row(one["id"], one["name"], one["project"], age(now - one["updated_at"]))
    return made


def counts(one: Mapping[str, Any]) -> str:
    """`6 cells: 4 done, 2 missing`"""
    total = sum(one["counts"].values())
    parts = [f"{count} {state}" for state, count in one["counts"].items() if count]
    return f"{total} {'cell' if total == 1 else 'cells'}: {', '.join(parts)}"


def report(one: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What is there, and how it compares with what is published."""
    made = table(
        "student", "method", "seeds", one["metric"], "published", "diff", "verdict", "gain", "published gain",
        right=(one["metric"], "published", "diff", "gain", "published gain"),
    )  # fmt: skip
    for row in one["rows"]:
        verdict = Text(row["verdict"], _STYLES.get(row["verdict"], ""))
        made.add_row(
            row["student"], row["method"], _seeds(one, row), _mean(row), _plain(row["published"]),
            _signed(row["difference"]), verdict, _gain(row), _signed(row["published_gain"]),
        )  # fmt: skip
    yield made
    yield Text(
        f"reproduced: the mean is within {one['tolerance']:g} points of the published figure. Gains are over the same "
        "student on labels alone, in brackets with their 95 % interval. ✓ done, … under way, ✗ failed, ~ stale, "
        "· missing.",
        "dim",
    )
    for cell in one["cells"]:
        if cell["cause"]:
            yield Text(f"{cell['student']} / {cell['method']} seed {cell['seed']}: {cell['cause']}", "red")


def _seeds(one: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    mine = [c for c in one["cells"] if (c["student"], c["method"]) == (row["student"], row["method"])]
    return " ".join(_SIGNS[cell["state"]] for cell in mine)


def _mean(row: Mapping[str, Any]) -> str:
    if row["mean"] is None:
        return NOTHING
    return f"{row['mean']:.1f}" + (f" ± {row['std']:.1f}" if row["std"] is not None else "")


def _gain(row: Mapping[str, Any]) -> str:
    if row["gain"] is None:
        return NOTHING
    within = "" if row["gain_low"] is None else f" [{row['gain_low']:+.1f}, {row['gain_high']:+.1f}]"
    return f"{row['gain']:+.1f}{within}"


def _plain(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.1f}"
