"""The answer of `GET /api/v1/compare` as tables and sentences. Pure; every judging word comes from the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from service.cli.render import NOTHING, ap, signed, table

MOST_SEED_COLUMNS = 7  # what fits beside a label into 100 columns
ORDER = ("teacher", "baseline", "distilled", "other")
VERDICT_STYLES = {"better": "green", "worse": "red"}
MORE_METRICS = {"AP50": "AP50", "AP75": "AP75", "APs": "small", "APm": "medium", "APl": "large"}


def comparison(answer: Mapping[str, Any], *, details: bool = True) -> list[RenderableType]:
    """Tables, sentences and warnings, in reading order. `details`: also AP by threshold and object size."""
    parts: list[RenderableType] = []
    if answer["groups"]:
        parts.append(ap_table(answer))
        if details:
            parts.append(metrics_table(answer["groups"]))
    if answer["comparisons"]:
        parts.append(verdict_table(answer["comparisons"]))
        parts += [Text(one["sentence"]) for one in answer["comparisons"]]
    parts += [Text(f"note: {warning}", style="yellow") for warning in answer["warnings"]]
    return parts


def ap_table(answer: Mapping[str, Any]) -> Table:
    """AP of each group: mean, standard deviation and each seed; below them each difference from the baseline."""
    groups = sorted(answer["groups"], key=lambda group: ORDER.index(group["role"]))
    seeds = sorted({job["seed"] for group in groups for job in group["jobs"]})
    columns = [f"seed {seed}" for seed in seeds] if len(seeds) <= MOST_SEED_COLUMNS else ["lowest", "highest"]
    made = table("", "seeds", "AP", "sd", *columns, right=("seeds", "AP", "sd", *columns))
    for group in groups:
        found = {job["seed"]: job["AP"] for job in group["jobs"]}
        each = _each(found, seeds)
        made.add_row(Text(group["label"]), str(group["n"]), ap(group["mean"]), ap(group["std"]), *map(ap, each))
    for one in answer["comparisons"]:
        found = {pair["seed"]: pair["value"] for pair in one["differences"]}
        label = Text("difference" if len(answer["comparisons"]) == 1 else f"{one['label']} - {one['baseline_label']}")
        each = _each(found, seeds)
        made.add_row(label, str(one["n"]), signed(one["mean"]), "", *map(signed, each), style="bold")
    return made


def metrics_table(groups: Sequence[Mapping[str, Any]]) -> Table:
    """Means over the seeds by IoU threshold and object size."""
    made = table("mean AP", *MORE_METRICS.values(), right=tuple(MORE_METRICS.values()))
    for group in sorted(groups, key=lambda group: ORDER.index(group["role"])):
        made.add_row(Text(group["label"]), *(ap(_mean([job[key] for job in group["jobs"]])) for key in MORE_METRICS))
    return made


def verdict_table(comparisons: Sequence[Mapping[str, Any]]) -> Table:
    """Difference, interval, share of the gap to the teacher, and the service's verdict."""
    right = ("diff", "95 % interval", "gap closed")
    made = table("distilled", "against", "diff", "95 % interval", "gap closed", "verdict", right=right)
    made.columns[-1].no_wrap = True
    for one in comparisons:
        interval = NOTHING if one["low"] is None else f"{signed(one['low'])} to {signed(one['high'])}"
        closed = NOTHING if one["gap_closed"] is None else f"{100 * one['gap_closed']:.0f} %"
        verdict = Text(one["verdict"], style=VERDICT_STYLES.get(one["verdict"], ""))
        labels = (Text(one["label"]), Text(one["baseline_label"]))
        made.add_row(*labels, signed(one["mean"]), interval, closed, verdict)
    return made


def _each(found: Mapping[int, float], seeds: Sequence[int]) -> list[float | None]:
    if len(seeds) <= MOST_SEED_COLUMNS:
        return [found.get(seed) for seed in seeds]
    return [min(found.values(), default=None), max(found.values(), default=None)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
