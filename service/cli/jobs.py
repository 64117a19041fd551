"""Commands about jobs on a running service: submit, jobs, watch, compare, cancel, logs, download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, Fault, out, remark, say
from service.cli.files import SET_HELP

if TYPE_CHECKING:
    from service.client import Client, JobRow

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the installation. [default: BCD_HOME, else .bcd]", show_default=False),
]
Ids = Annotated[list[str], typer.Argument(help="Ids of jobs.", show_default=False)]
Id = Annotated[str, typer.Argument(help="Id of a job.", show_default=False)]
LOG_POLL_SECONDS = 1.0
STATE_HELP = "Only jobs in this state: waiting, queued, starting, running, cancelling, succeeded, failed or cancelled."


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
    home: Home = None,
) -> None:
    """Submit a job and print its id.

    A relative data.root or teacher.path is taken from the current folder, because the worker runs in another one.
    """
    from service.cli.files import read_spec

    spec = read_spec(file, change, seed=seed)
    with connect(home) as client:
        job = client.submit(spec, idempotency_key)
        say(job["id"])
        if watch:
            _watch(client, [job["id"]])


def list_jobs(
    state: Annotated[str | None, typer.Option("--state", help=STATE_HELP)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many, newest first.")] = 20,
    home: Home = None,
) -> None:
    """List jobs, newest first."""
    from service.cli import render

    with connect(home) as client:
        found: list[JobRow] = []
        cursor = None
        while len(found) < limit:
            page = client.jobs(state=state, limit=min(100, limit - len(found)), cursor=cursor)
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
    if found:
        console = out()
        console.print(render.jobs_table(found, time.time(), console.width))
    else:
        remark(f"no jobs in state {state}" if state else "no jobs yet: submit one with `bcd submit FILE`")


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


def cancel(id: Id, home: Home = None) -> None:
    """Cancel a job. A running one stops at its next step."""
    with connect(home) as client:
        job = client.cancel(id)
    say(f"{job['id']} {job['state']}")


def logs(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    home: Home = None,
) -> None:
    """Print the log of a job."""
    from service.client import TERMINAL

    with connect(home) as client:
        after: int | None = None
        try:
            while True:
                # the state first: lines that come after it are read in the next round
                ended = client.job(id)["state"] in TERMINAL
                more = True
                while more:
                    page = client.logs(id, after=after)
                    for line in page["lines"]:
                        stamp = time.strftime("%H:%M:%S", time.localtime(line["time"]))
                        say(f"{stamp} {line['level']:<7} {line['text']}")
                    more = bool(page["lines"])
                    after = page["lines"][-1]["id"] if more else after
                if ended or not follow:
                    return
                time.sleep(LOG_POLL_SECONDS)
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None


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
