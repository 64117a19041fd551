"""Commands of sweeps: `bcd sweep submit`, `list`, `watch`, `report`, `best`, `pause`, `resume`, `stop`, `extend`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.console import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, Fault, out, remark, say
from service.cli.files import SET_HELP
from service.cli.jobs import Home, connect

if TYPE_CHECKING:
    from service.client import Client

app = typer.Typer(name="sweep", help="Search for the best settings of a job (Ray Tune).", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of a sweep.", show_default=False)]


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="Sweep spec (YAML or JSON).", show_default=False)],
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show progress.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Submitting again with the same key gives the same sweep.")
    ] = None,
    project: Annotated[str | None, typer.Option("--project", help="Project of its jobs. [default: default]")] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="-100 to 100; higher goes first.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Submit nothing: say how much it would run and be refused for.")
    ] = False,
    home: Home = None,
) -> None:
    """Submit a sweep and print its id.

    `job` in the file is a job spec, or the name of a file with one, beside the sweep's file; `set` then maps paths in
    it to other values.
    """
    values = read_sweep(file, change or [])
    with connect(home) as client:
        if dry_run:
            _dry_run(client.validate_sweep(values, project=project))
            return
        sweep = client.submit_sweep(values, idempotency_key, project=project, priority=priority)
        say(sweep["id"])
        if watch:
            _watch(client, sweep["id"])


def read_sweep(path: Path, changes: list[str]) -> dict[str, Any]:
    """The plain sweep spec of a file, with the job spec put in and changes applied. Raises `SpecError`."""
    from bcd.spec import SpecError
    from service.cli.files import apply_change, make_absolute, put, read_values

    values = read_values(path)
    if isinstance(values.get("job"), str):
        values["job"] = read_values(path.parent / values["job"])
    fixed = values.pop("set", {})
    if not isinstance(fixed, dict) or (fixed and not isinstance(values.get("job"), dict)):
        raise SpecError([("/set", "must map paths of the job spec to values: `set: {schedule.steps: 300}`")])
    for place, value in fixed.items():
        put(values["job"], str(place), value, where=f"set: {place}")
    for change in changes:
        apply_change(values, change)
    if isinstance(values.get("job"), dict):
        make_absolute(values["job"])
    return values


@app.command("list")
def list_sweeps(
    state: Annotated[
        str | None,
        typer.Option("--state", help="searching, repeating, paused, succeeded, failed or stopped."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 20,
    home: Home = None,
) -> None:
    """List sweeps, newest first."""
    from itertools import islice

    from service.cli import render_sweeps

    with connect(home) as client:
        found = list(islice(client.each_sweep(state=state), limit))
    if found:
        out().print(render_sweeps.sweeps_table(found, time.time()))
    else:
        remark("no sweep is in that state" if state else "no sweeps yet: submit one with `bcd sweep submit FILE`")


@app.command()
def watch(id: Id, home: Home = None) -> None:
    """Show the progress of a sweep until it ends. Exit code 0 only if it succeeded."""
    with connect(home) as client:
        _watch(client, id)


@app.command()
def report(
    id: Id,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, everything.")] = False,
    home: Home = None,
) -> None:
    """What a sweep found: best trials, ranking over seeds, which parameters matter, what it cost."""
    from service.cli import render_sweeps

    with connect(home) as client:
        found, importance, trials = client.sweep_report(id), client.importance(id), client.trials(id)
    if as_json:
        import json

        say(json.dumps({**found, "importance": importance, "trials": trials}, indent=2))
        return
    for part in render_sweeps.report(found, importance, trials):
        out().print(part)


@app.command()
def best(
    id: Id,
    to: Annotated[Path | None, typer.Option("--to", help="Write it here. [default: to the terminal]")] = None,
    home: Home = None,
) -> None:
    """The winner's job spec, ready for `bcd submit`."""
    import yaml

    with connect(home) as client:
        text = yaml.safe_dump(client.best_spec(id), sort_keys=False, allow_unicode=True)
    if to is None:
        say(text.rstrip())
        return
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Fault(f"cannot write {to}: {error.strerror}", EXIT_BAD_INPUT) from None
    say(str(to))


@app.command()
def pause(id: Id, home: Home = None) -> None:
    """Begin no trial; those that run write a checkpoint and stop."""
    with connect(home) as client:
        _told(client.pause_sweep(id))


@app.command()
def resume(id: Id, home: Home = None) -> None:
    """Let a paused sweep go on."""
    with connect(home) as client:
        _told(client.resume_sweep(id))


@app.command()
def stop(id: Id, home: Home = None) -> None:
    """End a sweep now: its jobs are cancelled, what it found stays."""
    with connect(home) as client:
        _told(client.stop_sweep(id))


@app.command()
def extend(
    id: Id,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Trials in all.")] = None,
    hours: Annotated[float | None, typer.Option("--hours", help="Hours of search in all.")] = None,
    gpu_hours: Annotated[float | None, typer.Option("--gpu-hours", help="GPU hours in all.")] = None,
    home: Home = None,
) -> None:
    """Let a sweep search on with a larger budget, also one that has ended; all that it knows stays."""
    given = {"trials": trials, "hours": hours, "gpu_hours": gpu_hours}
    budget = {key: value for key, value in given.items() if value is not None}
    if not budget:
        raise Fault("give --trials, --hours or --gpu-hours: the whole new budget", EXIT_BAD_INPUT)
    with connect(home) as client:
        old = client.sweep(id)["spec"]["budget"]
        _told(client.extend_sweep(id, {**{k: v for k, v in old.items() if v is not None}, **budget}))


def _told(sweep: dict[str, Any]) -> None:
    say(f"{sweep['id']} {sweep['state']}")


def _dry_run(verdict: dict[str, Any]) -> None:
    for fault in verdict["errors"]:
        remark(f"{fault['pointer'] or '/'}: {fault['detail']}")
    if not verdict["ok"]:
        raise typer.Exit(EXIT_BAD_INPUT)
    trials, steps = verdict["trials"], verdict["steps"]
    say("as many trials as fit the budget" if trials is None else f"{trials} trials at most")
    if steps is not None:
        say(f"{steps:,} optimizer steps if none is stopped early")


def _watch(client: Client, sweep_id: str) -> None:
    from service.cli import render_sweeps

    told: list[str] = []

    def tell(sweep: dict[str, Any]) -> None:
        line = render_sweeps.progress(sweep, client.sweep_report(sweep_id))
        if line not in told[-1:]:
            told.append(line)
            say(line)

    try:
        sweep = client.wait_sweep(sweep_id, every=3.0, told=tell)
    except KeyboardInterrupt:
        remark(f"stopped watching; the sweep goes on (end it with `bcd sweep stop {sweep_id}`)")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if sweep["state"] != "succeeded":
        remark(f"the sweep {sweep['state']}" + (f": {sweep['cause']}" if sweep["cause"] else ""))
        raise typer.Exit(EXIT_FAILED)
    found, importance = client.sweep_report(sweep_id), client.importance(sweep_id)
    for part in render_sweeps.report(found, importance, client.trials(sweep_id)):
        out().print(part)
