"""Evaluation reports (`bcd.eval.report`, as JSON) as tables, one column for each detector. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from service.cli.render import NOTHING, ap, signed, table

Report = Mapping[str, Any]
SIZES = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APs": "small", "APm": "medium", "APl": "large"}
MOST_CLASSES = 20  # rows; the report file has them all
MOST_CONFUSIONS = 5
KINDS = {
    "first right": "{first} right, {second} wrong",
    "second right": "{second} right, {first} wrong",
    "both wrong": "both wrong",
    "largest gap": "largest gap",
}


def report_tables(reports: Sequence[Report]) -> list[RenderableType]:
    """Everything about one detector, or about several side by side, in reading order.

    With several, the last one is compared with each other one before it.
    """
    parts: list[RenderableType] = [ap_table(reports), class_table(reports), error_table(reports)]
    parts.append(score_table(reports))
    if any(report["cost"] for report in reports):
        parts.append(cost_table(reports))
    parts += [Text(line) for line in confusion_lines(reports)]
    parts += [Text(f"note: {note}", style="yellow") for report in reports for note in report["notes"]]
    return parts


def ap_table(reports: Sequence[Report]) -> Table:
    """AP by IoU threshold and object size, and the differences of the last detector from the others."""
    made = table("", *SIZES.values(), right=tuple(SIZES.values()))
    for report in reports:
        made.add_row(Text(report["name"]), *(ap(report["ap"][key]) for key in SIZES))
    last = reports[-1]
    for report in reports[:-1]:
        cells = (signed(_minus(last["ap"][key], report["ap"][key])) for key in SIZES)
        made.add_row(Text(f"{last['name']} - {report['name']}"), *cells, style="bold")
    return made


def class_table(reports: Sequence[Report]) -> Table:
    """AP of each class; of many classes those with the largest differences, or with the lowest AP of one detector."""
    one = len(reports) == 1
    rows = list(zip(*(report["per_class"] for report in reports), strict=True))
    with_objects = [row for row in rows if row[0]["objects"]]
    shown = with_objects
    title = None
    if len(with_objects) > MOST_CLASSES:
        worth: Callable[[tuple[Any, ...]], float]
        if one:
            worth = lambda row: row[0]["AP"]  # noqa: E731
        else:
            worth = lambda row: -abs(row[-1]["AP"] - row[0]["AP"])  # noqa: E731
        chosen = {id(row) for row in sorted(with_objects, key=worth)[:MOST_CLASSES]}
        shown = [row for row in with_objects if id(row) in chosen]
        title = f"the {MOST_CLASSES} classes with the {'lowest AP' if one else 'largest difference'}"
    names = tuple(SIZES.values()) if one else tuple(report["name"] for report in reports)
    made = table("AP by class", "objects", *names, right=("objects", *names), title=title)
    for row in shown:
        values = [row[0][key] for key in SIZES] if one else [cell["AP"] for cell in row]
        made.add_row(Text(row[0]["class"]), f"{row[0]['objects']:,}", *map(ap, values))
    return made


def error_table(reports: Sequence[Report]) -> Table:
    """TIDE's error types: how many, and the AP50 to be won."""
    columns = [part for report in reports for part in (report["name"], "AP50 to win")]
    made = table("errors", *columns, right=tuple(columns))
    for name in reports[0]["errors"]["types"]:
        cells = []
        for report in reports:
            row = report["errors"]["types"][name]
            cells += [f"{row['count']:,}", signed(row["gain"])]
        made.add_row(name, *cells)
    for key, label in (("false_positives", "any false positive"), ("false_negatives", "any missed object")):
        made.add_row(label, *(cell for report in reports for cell in ("", signed(report["errors"][key]))))
    return made


def score_table(reports: Sequence[Report]) -> Table:
    """What the scores are worth: the best threshold and the calibration."""
    names = tuple(report["name"] for report in reports)
    made = table("scores", *names, right=names)
    for key, label in (("score", "best threshold"), ("f1", "F1"), ("precision", "precision"), ("recall", "recall")):
        made.add_row(label, *(_fraction((report["best_threshold"] or {}).get(key)) for report in reports))
    made.add_row("calibration error", *(_fraction(report["calibration"]["ece"]) for report in reports))
    made.add_row("score minus precision", *(_fraction(report["calibration"]["bias"], sign=True) for report in reports))
    return made


def cost_table(reports: Sequence[Report]) -> Table:
    """Size and speed."""
    names = tuple(report["name"] for report in reports)
    made = table("cost", *names, right=names)
    rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "parameters, M": lambda cost: f"{cost['parameters'] / 1e6:.2f}",
        "GFLOPs": lambda cost: f"{cost['flops'] / 1e9:.2f}",
        "memory, MB": lambda cost: f"{cost['memory_bytes'] / 1e6:.1f}",
        "forward, ms": lambda cost: f"{cost['forward']['median_ms']:.1f}",
        "detect, ms": lambda cost: f"{cost['detect']['median_ms']:.1f}",
    }
    for label, cell in rows.items():
        made.add_row(label, *(cell(report["cost"]) if report["cost"] else NOTHING for report in reports))
    known = next(report["cost"] for report in reports if report["cost"])
    made.caption = f"one image of {known['size'][0]}x{known['size'][1]} (height x width), {known['device']}"
    made.caption_justify = "left"
    return made


def confusion_lines(reports: Sequence[Report]) -> list[str]:
    """The most frequent confusions of classes, one line for each detector that has any."""
    lines = []
    for report in reports:
        found, names = report["confusion"], report["data"]["classes"]
        background = found["background"]
        mixed = [cell for cell in found["cells"] if cell[0] != cell[1] and background not in cell[:2]]
        mixed.sort(key=lambda cell: -cell[2])
        if mixed:
            told = ", ".join(f"{names[a]} for {names[b]} ({count}x)" for a, b, count in mixed[:MOST_CONFUSIONS])
            lines.append(f"{report['name']} most often takes: {told}; score {found['score']:.2f} or more")
    return lines


def disagreement_lines(comparison: Mapping[str, Any], most: int = 3) -> list[RenderableType]:
    """The strongest cases of each kind of disagreement, with their reasons and drawings."""
    found = comparison["disagreement"]
    lines = []
    for kind, label in KINDS.items():
        shown = found[kind][:most]
        if shown:
            lines.append(Text(label.format(first=found["first"], second=found["second"]), style="bold"))
        for one in shown:
            place = one["drawing"] or one["file_name"] or str(one["image_id"])
            lines.append(Text(f"  {place}: {'; '.join(one['reasons'])}"))
    return [*lines] if lines else [Text(f"{found['first']} and {found['second']} differ nowhere")]


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _fraction(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return NOTHING
    return f"{value:+.3f}" if sign else f"{value:.3f}"
