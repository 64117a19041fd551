"""API JSON to rich tables and lines. Pure functions: no clock, no network, no console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.client import TERMINAL, Job, JobRow

NOTHING = "-"
# What the table of jobs does without on a narrow terminal, in this order; a longer name is folded.
SPARED = ("methods", "age", "seed", "progress")
LONGEST_NAME = 20
NARROW = 80  # columns; below, the live display has no room for losses
STATE_STYLES = {
    "running": "cyan",
    "starting": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "pausing": "yellow",
    "paused": "yellow",
    "waiting": "dim",
    "queued": "dim",
}


# -------------------------------------------------------------------------------------------------- figures


def ap(value: float | None) -> str:
    """An AP in percent with one decimal."""
    return NOTHING if value is None else f"{value:.1f}"


def signed(value: float | None) -> str:
    """A difference with its sign; none on what rounds to zero."""
    if value is None:
        return NOTHING
    text = f"{value:+.1f}"
    return text[1:] if text in ("+0.0", "-0.0") else text


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 07 min`, `4 d`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d"


def age(seconds: float) -> str:
    """A rough age for a table: `42 s`, `3 min`, `2 h`, `4 d`."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def size(count: int) -> str:
    """A file size: `812 B`, `213 kB`, `1.2 GB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def state(text: str) -> Text:
    return Text(text, style=STATE_STYLES.get(text, ""))


def cause(job: Job | JobRow) -> str | None:
    """Why the job is in its state, where that says more than the state."""
    text = job["cause"] or job.get("wait_reason")
    return text if text and job["state"] != "succeeded" and text != job["state"] else None


def final_ap(job: Job | JobRow) -> float | None:
    """The AP of the job's final evaluation, in percent."""
    evaluation = job.get("evaluation")
    if not isinstance(evaluation, Mapping):
        return None
    results = evaluation.get("results", evaluation)
    value = results.get("AP") if isinstance(results, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def losses(values: Mapping[str, float]) -> str:
    """The total loss and its terms: `1.23 (qfl 0.51, giou 0.42, bckd_cls 0.30)`."""
    if "loss" not in values:
        return ""
    terms = [f"{key[5:]} {value:.2f}" for key, value in sorted(values.items()) if key.startswith("loss/")]
    return f"{values['loss']:.2f}" + (f" ({', '.join(terms)})" if terms else "")


# --------------------------------------------------------------------------------------------------- tables


def table(*columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """A table in the common look; `right` names the columns of figures."""
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def jobs_table(jobs: Sequence[JobRow], now: float, width: int = 100) -> Group:
    """One row for each job, and below the table the causes. `now`: Unix seconds; `width`: columns of the terminal."""
    cells = {
        "id": [job["id"] for job in jobs],
        "name": [job["name"] for job in jobs],
        "state": [job["state"] for job in jobs],
        "progress": [f"{job['step']}/{job['total_steps'] or '?'}" for job in jobs],
        "AP": [ap(final_ap(job)) for job in jobs],
        "methods": [", ".join(job["methods"]) or "none" for job in jobs],
        "seed": [str(job["seed"]) for job in jobs],
        "age": [age(now - job["created_at"]) for job in jobs],
    }
    for spared in SPARED:
        longest = {name: max(map(len, (name, *column))) for name, column in cells.items()}
        longest["name"] = min(longest["name"], LONGEST_NAME)
        if sum(longest.values()) + 3 * len(longest) <= width:
            break
        del cells[spared]
    made = table(*cells, right=("progress", "AP", "seed", "age"))
    for column in made.columns:
        column.no_wrap = column.header != "name"
    for row in zip(*cells.values(), strict=True):
        made.add_row(*(state(cell) if name == "state" else Text(cell) for name, cell in zip(cells, row, strict=True)))
    causes = [(job, why) for job in jobs if (why := cause(job))]
    styles = {"failed": "red"}
    return Group(
        made, *(Text(f"{job['id']} {job['state']}: {why}", styles.get(job["state"], "dim")) for job, why in causes)
    )


def progress_row(job: Job, values: Mapping[str, float], now: float) -> list[Any]:
    """What a live display shows of one job: name, state, bar, steps, time, AP, losses (the last goes below)."""
    begun = job["started_at"]
    spent = duration((job["ended_at"] or now) - begun) if begun is not None else ""
    found = final_ap(job)
    bar = ProgressBar(total=max(1, job["total_steps"]), completed=job["step"], width=24)
    return [
        Text(job["name"]),
        state(job["state"]),
        bar,
        f"{job['step']}/{job['total_steps'] or '?'}",
        spent,
        f"AP {ap(values.get('AP') if found is None else found)}",
    ]


def board(rows: Sequence[tuple[Job, Mapping[str, float]]], now: float, *, detail: bool, width: int = 100) -> Table:
    """The live display: one bar for each job, or the bars with losses for each term, attempts and causes below them."""
    made = Table.grid(padding=(0, 1))
    for i in range(7):
        # on a narrow terminal the bar gives way, the figures do not
        made.add_column(justify="right" if i in (3, 4) else "left", no_wrap=i != 2, ratio=None)
    for job, values in rows:
        known = "loss" in values and job["state"] not in TERMINAL and not detail and width >= NARROW
        made.add_row(*progress_row(job, values, now), f"loss {values['loss']:.2f}" if known else "")
    if not detail:
        return made
    whole = Table.grid()
    whole.add_row(made)
    for job, values in rows:
        for line in detail_lines(job, values):
            whole.add_row(Text(line, style="dim"))
    return whole


def detail_lines(job: Job, values: Mapping[str, float]) -> list[str]:
    """Loss terms while it runs, attempts when there was more than one, and the cause when it failed."""
    lines = []
    if losses(values) and job["state"] not in TERMINAL:
        lines.append(f"{job['name']}: loss {losses(values)}")
    for attempt in job["attempts"] if len(job["attempts"]) > 1 else []:
        why = f": {attempt['cause']}" if attempt.get("cause") else ""
        lines.append(f"{job['name']}: attempt {attempt['number']} {attempt['state']}{why}")
    if last := cause(job):
        lines.append(f"{job['name']}: {last}")
    return lines


def progress_line(job: Job, values: Mapping[str, float]) -> str:
    """One plain line about one job, for logs and pipes."""
    parts = [job["name"], job["state"], f"{job['step']}/{job['total_steps'] or '?'}"]
    if losses(values) and job["state"] not in TERMINAL:
        parts.append(f"loss {losses(values)}")
    found = values.get("AP") if final_ap(job) is None else final_ap(job)
    if found is not None:
        parts.append(f"AP {ap(found)}")
    if len(job["attempts"]) > 1:
        parts.append(f"attempt {len(job['attempts'])}")
    if why := cause(job):
        parts.append(why)
    return "  ".join(parts)
