"""Sweeps as tables and lines. Pure functions, as `service.cli.render`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from service.cli.render import NOTHING, age, duration, state, table

SHOWN = 15  # trials of a table


def sweeps_table(sweeps: Sequence[Mapping[str, Any]], now: float) -> RenderableType:
    made = table("id", "name", "state", "search", "trials", "age", right=("trials", "age"))
    for one in sweeps:
        total = sum(one["jobs"].values())
        how = one["search"] + ("" if one["scheduler"] == "none" else f" + {one['scheduler']}")
        most = one["most_trials"]
        of = f"{total}" if most is None else f"{total} of {most}" if total <= most else f"{total}"
        made.add_row(one["id"], one["name"], state(one["state"]), how, of, age(now - one["created_at"]))
    return made


def progress(sweep: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """`searching: 12 of 32 trials (8 ended, 3 stopped early, 1 failed), best AP 48.20 (#7)`."""
    jobs, most = sweep["jobs"], sweep["most_trials"]
    total = report["spent"]["trials"]
    ended = len(report["best"]) + report["stopped"] + sum(report["failures"].values())
    parts = [f"{len(report['best'])} to their end"]
    if report["stopped"]:
        parts.append(f"{report['stopped']} stopped early")
    if report["failures"]:
        parts.append(f"{sum(report['failures'].values())} failed")
    text = f"{sweep['state']}: {total}" + (f" of {most}" if most is not None else "") + f" trials, {ended} ended"
    text += f" ({', '.join(parts)})" if ended else ""
    if report["best_so_far"]:
        last = report["best_so_far"][-1]
        best = next(one for one in report["best_so_far"] if one["best"] == last["best"])
        text += f"; best {sweep['objectives'][0]} {last['best']:.2f} (#{best['number']})"
    waiting = sum(jobs.get(name, 0) for name in ("queued", "waiting", "starting", "running"))
    if sweep["state"] == "repeating":
        text += f"; {waiting} {'repeat' if waiting == 1 else 'repeats'} to go"
    return text


def report(
    found: Mapping[str, Any], importance: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]
) -> Iterator[RenderableType]:
    """What it found, the sentence first."""
    sweep = found["sweep"]
    yield Text(found["sentence"], style="bold")
    if found["ranking"]:
        yield _ranking(found["ranking"])
        yield Text("Repeats only, without the search's own run. Differences are to the default, paired by seed.", "dim")
    yield _trials(found, trials)
    if found["front"]:
        yield Text("Pareto front: " + ", ".join(f"#{number}" for number in found["front"]))
    yield from _importance(importance)
    spent = found["spent"]
    saved = f" of {spent['steps_in_full']:,} in full" if spent["steps"] < spent["steps_in_full"] else ""
    took = duration(spent["worker_hours"] * 3600)
    line = f"{spent['trials']} trials, {spent['steps']:,} steps{saved}; {took} of workers"
    if spent["gpu_hours"]:
        line += f", {spent['gpu_hours']:.1f} GPU hours"
    yield Text(line)
    for cause, count in found["failures"].items():
        yield Text(f"{count} failed: {cause}", style="red")
    if sweep["cause"]:
        yield Text(f"{sweep['state']}: {sweep['cause']}")


def _ranking(ranked: Sequence[Mapping[str, Any]]) -> RenderableType:
    made = table(
        "trial", "mean", "std", "n", "difference", "95 % interval", "p", "verdict",
        right=("mean", "std", "n", "difference", "p"), title="Best trials again on more seeds",
    )  # fmt: skip
    for one in ranked:
        between = (
            f"[{one['difference_low']:+.2f}, {one['difference_high']:+.2f}]"
            if one["difference_low"] is not None
            else NOTHING
        )
        name = "default" if one["number"] == 0 else f"#{one['number']}"
        made.add_row(
            name, _value(one["mean"]), _value(one["std"]), str(one["n"]),
            NOTHING if one["difference"] is None else f"{one['difference']:+.2f}", between,
            _p(one["p_adjusted"]), one["verdict"] or NOTHING,
        )  # fmt: skip
    return made


def _trials(found: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> RenderableType:
    names = found["sweep"]["objectives"]
    first: dict[int, Mapping[str, Any]] = {}
    for trial in trials:
        if trial["number"] > 0:
            first.setdefault(trial["number"], trial)
    order = [*found["best"], *(number for number in first if number not in found["best"])]
    paths = list(dict.fromkeys(path for trial in first.values() for path in trial["params"]))
    title = f"Trials of the search, the best {SHOWN} of {len(first)}" if len(first) > SHOWN else "Trials of the search"
    made = table("trial", *names, *map(_short, paths), "outcome", right=("trial", *names), title=title)
    for number in order[:SHOWN]:
        one = first[number]
        values = one["values"] or [one["last"], *[None] * (len(names) - 1)]
        outcome = one["stopped"] or (one["cause"] if one["state"] == "failed" else one["state"])
        made.add_row(
            f"#{number}", *map(_value, values), *(_word(one["params"].get(path, NOTHING)) for path in paths),
            Text(outcome or one["state"], overflow="fold"),
        )  # fmt: skip
    return made


def _importance(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    if not found["items"]:
        yield Text(f"Which parameters matter: {found['note']}.", style="dim")
        return
    made = table("parameter", "importance", "95 % interval", right=("importance",), title="Which parameters matter")
    for one in found["items"]:
        between = NOTHING if one["low"] is None else f"[{one['low']:.2f}, {one['high']:.2f}]"
        made.add_row(one["path"], f"{one['value']:.2f}", between)
    yield made


def _short(path: str) -> str:
    return path.removeprefix("methods.").removeprefix("schedule.").removeprefix("student.")


def _word(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _value(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def _p(value: float | None) -> str:
    return NOTHING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
