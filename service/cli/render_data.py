"""The report of `bcd data check` as tables and lines. Pure: it takes the report's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from service.cli.render import table

MOST_CLASSES = 30  # rows; the others are summed up
WHOLE = {
    "images": "images",
    "background": "without objects",
    "objects": "objects",
    "ignored": "ignored objects",
    "clipped": "boxes cut at the edge",
    "most_objects": "most in one image",
}


def data_report(answer: Mapping[str, Any]) -> list[RenderableType]:
    """Everything about one data set, in reading order; faults come last, where they are seen."""
    parts = answer["parts"]
    shown: list[RenderableType] = [Text(f"{answer['source']} ({answer['type']})", style="bold")]
    if parts:
        shown += [_overview(parts), *_classes(parts), *_sizes(parts)]
    for key, name in (("version", "data version"), ("pixel_version", "with pixels")):
        if answer[key]:
            shown.append(Text(f"{name}: {answer[key]}", style="dim"))
    shown += [Text(f"note: {text}", style="yellow") for text in [*_notes(parts), *answer["remarks"]]]
    for fault in answer["faults"]:
        shown.append(Text(f"fault: {fault['count']:,} x {fault['reason']} ({fault['part']})", style="red"))
        shown += [Text(f"  {line}") for example in fault["examples"] for line in example.splitlines()]
    if not answer["faults"]:
        shown.append(Text("no faults", style="green"))
    return shown


def _overview(parts: Mapping[str, Any]) -> Table:
    made = table("", *parts, right=tuple(parts))
    for key, label in WHOLE.items():
        made.add_row(label, *(f"{part[key]:,}" for part in parts.values()))
    made.add_row("image sizes", *(_image_sizes(part) for part in parts.values()))
    for key, label in (("as is", "padding in batches"), ("grouped", "with group_by_shape")):
        if any(key in part["padding"] for part in parts.values()):
            made.add_row(label, *(_percent(part["padding"].get(key)) for part in parts.values()))
    return made


def _classes(parts: Mapping[str, Any]) -> list[Table]:
    """Objects by class and split, the commonest first."""
    labelled = {name: part for name, part in parts.items() if name != "unlabelled" and part["classes"]}
    if not labelled:
        return []
    first = next(iter(labelled.values()))["classes"]
    names = sorted(first, key=lambda name: -first[name])
    made = table("class", *labelled, right=tuple(labelled))
    for name in names[:MOST_CLASSES]:
        made.add_row(Text(name), *(_count(part["classes"].get(name, 0)) for part in labelled.values()))
    rest = names[MOST_CLASSES:]
    if rest:
        sums = (sum(part["classes"].get(name, 0) for name in rest) for part in labelled.values())
        made.add_row(f"{len(rest)} more", *map(_count, sums))
    return [made]


def _sizes(parts: Mapping[str, Any]) -> list[Table]:
    """Objects by size: COCO's, in the model's input, and by pyramid level."""
    labelled = {name: part for name, part in parts.items() if part["objects"]}
    if not labelled:
        return []
    made = table("object size", *labelled, right=tuple(labelled))
    any_part = next(iter(labelled.values()))
    limits = {"small": "small (below 32 px)", "medium": "medium", "large": "large (from 96 px)"}
    for key, label in limits.items():
        made.add_row(label, *(_share(part["boxes"][key], part["objects"]) for part in labelled.values()))
    made.add_section()
    for key in any_part["input_sides"]:
        counts = [part["input_sides"][key] for part in labelled.values()]
        if any(counts):
            texts = (_share(n, part["objects"]) for n, part in zip(counts, labelled.values(), strict=True))
            made.add_row(f"{key.replace('-', ' to ')} px in the input", *texts)
    made.add_section()
    for stride in any_part["levels"]:
        texts = (_share(part["levels"].get(stride, 0), part["objects"]) for part in labelled.values())
        made.add_row(f"suits stride {stride}", *texts)
    made.add_row("smaller than a site", *(_share(p["below_stride"], p["objects"]) for p in labelled.values()))
    return [made]


def _notes(parts: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {count:,} x {note}" for name, part in parts.items() for note, count in part["notes"].items()]


def _image_sizes(part: Mapping[str, Any]) -> str:
    """The commonest size, and how many others there are."""
    if not part["image_sizes"]:
        return "-"
    width, height, _ = part["image_sizes"][0]
    others = part["distinct_sizes"] - 1
    return f"{width}x{height}" + (f" and {others:,} more" if others else "")


def _count(count: int) -> Text:
    return Text(f"{count:,}", style="" if count else "yellow")


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({_percent(count / whole)})"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
