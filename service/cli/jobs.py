"""Commands that submit and look at jobs on a running service: submit, jobs, watch, compare, logs, download."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.console import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, Fault, out, remark, say
from service.cli.files import SET_HELP

if TYPE_CHECKING:
    from service.client import Client, LogLine

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the installation. [default: BCD_HOME, else .bcd]", show_default=False),
]
Ids = Annotated[list[str], typer.Argument(help="Ids of jobs.", show_default=False)]
Id = Annotated[str, typer.Argument(help="Id of a job.", show_default=False)]
STATE_HELP = (
    "Only jobs in this state: waiting, queued, starting, running, pausing, paused, cancelling, succeeded, failed or "
    "cancelled."
)


def connect(home: Path | None) -> Client:
    """The client of the service on `home`. Raises `ServiceUnavailable`."""
    from service.cli.place import settings_of
    from service.client import Client

    return Client.from_settings(settings_of(home))


def submit(
    file: Annotated[Path, typer.Argument(help="Spec file (YAML or JSON).", show_default=False)],
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of this run, in place of the file's.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show progress, as `bcd watch` does.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Submitting again with the same key gives the same job.")
    ] = None,
    project: Annotated[str | None, typer.Option("--project", help="Project of the job. [default: default]")] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="-100 to 100; higher goes first.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A word for finding it again. Repeatable.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Name for runs that are looked at together.")] = None,
    after: Annotated[
        list[str] | None, typer.Option("--after", help="Id of a job that must have succeeded first. Repeatable.")
    ] = None,
    retries: Annotated[
        int | None, typer.Option("--retries", help="How often a failure of the job itself is tried again (0 to 10).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Submit nothing: say what it would do, cost and be refused for.")
    ] = False,
    home: Home = None,
) -> None:
    """Submit a job and print its id.

    A relative data.root or teacher.path is taken from the current folder, because the worker runs in another one.
    """
    from service.cli.files import read_spec

    spec = read_spec(file, change, seed=seed)
    options: dict[str, Any] = {
        "project": project, "priority": priority, "tags": tag or (), "group": group, "after": after or (),
        "retries": retries,
    }  # fmt: skip
    with connect(home) as client:
        if dry_run:
            _dry_run(client.validate(spec, **options))
            return
        job = client.submit(spec, idempotency_key, **options)
        say(job["id"])
        if watch:
            _watch(client, [job["id"]])


def list_jobs(
    filter: Annotated[
        list[str] | None,
        typer.Argument(help="Only these, such as: state:failed method:bckd 'AP>30' tag:night", show_default=False),
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help=STATE_HELP)] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", help="Such as -best.AP (best first), name, -priority. [default: newest]")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 20,
    home: Home = None,
) -> None:
    """List jobs, newest first."""
    from itertools import islice

    from service.cli import render

    wanted = {"filter": " ".join(filter) if filter else None, "state": state, "sort": sort}
    with connect(home) as client:
        found = list(islice(client.each_job(**wanted, limit=min(200, limit)), limit))
    if found:
        console = out()
        console.print(render.jobs_table(found, time.time(), console.width))
    elif filter or state:
        remark("no job fits that")
    else:
        remark("no jobs yet: submit one with `bcd submit FILE`")


def _dry_run(verdict: dict[str, Any]) -> None:
    """Say what a submission would do; exit code 2 where it would be refused."""
    for fault in verdict["errors"]:
        remark(f"{fault['pointer'] or '/'}: {fault['detail']}")
    if not verdict["ok"]:
        raise typer.Exit(EXIT_BAD_INPUT)
    from service.cli import render_validate

    for part in render_validate.verdict(verdict):
        out().print(part)


def watch(ids: Ids, home: Home = None) -> None:
    """Show the progress of jobs until they end. Exit code 0 only if all succeeded."""
    with connect(home) as client:
        _watch(client, ids)


def _watch(client: Client, ids: list[str]) -> None:
    from service.cli.board import follow

    try:
        jobs = follow(client, list(dict.fromkeys(ids)), out())
    except KeyboardInterrupt:
        remark("stopped watching; the jobs go on (stop one with `bcd cancel ID`)")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if any(job["state"] != "succeeded" for job in jobs.values()):
        raise typer.Exit(EXIT_FAILED)


def compare(ids: Ids, home: Home = None) -> None:
    """Compare finished jobs: means over seeds, differences with intervals, and the verdict."""
    from service.cli import render_compare

    with connect(home) as client:
        answer = client.compare(dict.fromkeys(ids))
    for part in render_compare.comparison(answer):
        out().print(part)
    if not answer["comparisons"] and not answer["warnings"]:
        remark("no pair to compare: give runs of one student with and without `teacher` and `methods`, of equal seeds")


def logs(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=1, max=5000, help="Only the last so many lines.")] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Only of this attempt.")] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="Only of this level and up: debug, info, warning or error.")
    ] = None,
    search: Annotated[str | None, typer.Option("--search", help="Only lines that hold this text.")] = None,
    home: Home = None,
) -> None:
    """Print the log of a job."""
    wanted: dict[str, Any] = {"attempt": attempt, "level": level, "q": search}
    with connect(home) as client:
        after = 0
        try:
            if tail is not None:
                page = client.logs(id, tail=tail, **wanted)
                _print_lines(page["lines"])
                after = page["lines"][-1]["id"] if page["lines"] else 0
            elif not follow:
                while (page := client.logs(id, after=after, **wanted))["lines"]:
                    _print_lines(page["lines"])
                    after = page["lines"][-1]["id"]
            if follow:
                for line in client.follow_logs(id, after=after, **wanted):
                    _print_lines([line])
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _print_lines(lines: Iterable[LogLine]) -> None:
    for line in lines:
        stamp = time.strftime("%H:%M:%S", time.localtime(line["time"]))
        say(f"{stamp} {line['level']:<7} {line['text']}")


def download(
    id: Id,
    to: Annotated[Path, typer.Option("--to", help="Folder for the file; made when missing.")] = Path("."),
    everything: Annotated[
        bool, typer.Option("--all", help="Also its predictions, report and newest checkpoints.")
    ] = False,
    home: Home = None,
) -> None:
    """Download the result of a job: the plain student's weights, checked against their hash."""
    from service.cli import render

    with connect(home) as client:
        results = [a for a in client.artifacts(id) if everything or a["type"] == "result"]
        if not results:
            job = client.job(id)
            why = f" ({render.cause(job)})" if render.cause(job) else ""
            raise Fault(f"job {id} has no result: it is {job['state']}{why}")
        try:
            to.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Fault(f"cannot make the folder {to}: {error.strerror}", EXIT_BAD_INPUT) from None
        for artifact in results:
            # the name comes from the service: keep to the last part, so that it cannot leave the folder
            name = Path(artifact["name"]).name or "result"
            try:
                say(str(client.download(artifact, to / name)))
            except OSError as error:
                raise Fault(f"cannot write {to / name}: {error.strerror or error}") from None
