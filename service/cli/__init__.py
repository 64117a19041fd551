"""The command line `bcd`. This file owns the entry point and the list of commands.

Each group of commands has a file of its own. Nothing here imports torch, ray, mlflow or sqlalchemy: the commands that
need them import them when they run, so that `bcd --help` and `bcd submit` answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from service.cli import (
    access,
    backup,
    data,
    demo,
    doctor,
    evaluate,
    export,
    jobs,
    local,
    seed,
    serve,
    sweeps,
    tables,
    teacher,
    verbs,
)
from service.cli.console import EXIT_INTERRUPTED, fault_lines, remark, say

app = typer.Typer(
    name="bcd",
    help="Distil dense object detectors, and find out whether it helped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from bcd import __version__

        say(f"bcd {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours, at any place of the line; NO_COLOR=1 does the same.")
    ] = False,
) -> None:
    pass


SERVICE, JOBS, ALONE = "Service", "Jobs", "Without a service"
app.command("up", rich_help_panel=SERVICE)(serve.up)
app.command("demo", rich_help_panel=SERVICE)(demo.demo)
app.command("cluster", rich_help_panel=SERVICE)(access.cluster)
app.add_typer(access.token, rich_help_panel=SERVICE)
app.add_typer(access.user, rich_help_panel=SERVICE)
app.add_typer(access.project, rich_help_panel=SERVICE)
app.command("backup", rich_help_panel=SERVICE)(backup.backup)
app.command("restore", rich_help_panel=SERVICE)(backup.restore)
app.command("seed-demo", rich_help_panel=SERVICE)(seed.seed_demo)
app.command("submit", rich_help_panel=JOBS)(jobs.submit)
app.command("jobs", rich_help_panel=JOBS)(jobs.list_jobs)
app.command("watch", rich_help_panel=JOBS)(jobs.watch)
app.command("compare", rich_help_panel=JOBS)(jobs.compare)
app.command("logs", rich_help_panel=JOBS)(jobs.logs)
app.command("download", rich_help_panel=JOBS)(jobs.download)
app.command("cancel", rich_help_panel=JOBS)(verbs.cancel)
app.command("pause", rich_help_panel=JOBS)(verbs.pause)
app.command("resume", rich_help_panel=JOBS)(verbs.resume)
app.command("retry", rich_help_panel=JOBS)(verbs.retry)
app.command("clone", rich_help_panel=JOBS)(verbs.clone)
app.command("set", rich_help_panel=JOBS)(verbs.change)
app.add_typer(sweeps.app, rich_help_panel=JOBS)
app.add_typer(tables.app, rich_help_panel=JOBS)
app.command("train", rich_help_panel=ALONE)(local.train)
app.command("evaluate", rich_help_panel=ALONE)(evaluate.evaluate)
app.command("report", rich_help_panel=ALONE)(evaluate.report)
app.command("export", rich_help_panel=ALONE)(export.export)
app.command("doctor", rich_help_panel=ALONE)(doctor.doctor)
app.add_typer(data.app, rich_help_panel=ALONE)
app.add_typer(teacher.app, rich_help_panel=ALONE)
app.command("validate", rich_help_panel=ALONE)(local.validate)
app.command("schema", rich_help_panel=ALONE)(local.schema)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    if "--no-color" in args:
        args.remove("--no-color")
        os.environ["NO_COLOR"] = "1"
    try:
        app(args, prog_name="bcd")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        told = fault_lines(error)
        if told is None:
            raise
        lines, code = told
        for i, line in enumerate(lines):
            remark(f"bcd: {line}" if i == 0 else line)
        sys.exit(code)
