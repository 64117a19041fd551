"""Commands of tables: `bcd table keep`, `list`, `show`, `run`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.console import EXIT_BAD_INPUT, Fault, out, remark, say
from service.cli.jobs import Home, connect

app = typer.Typer(name="table", help="Reproduce a table: methods x students x seeds.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name or id of a table.", show_default=False)]
File = Annotated[Path, typer.Argument(help="Manifest (YAML or JSON).", show_default=False)]


@app.command()
def keep(
    file: File,
    project: Annotated[str | None, typer.Option("--project", help="Project of its jobs. [default: default]")] = None,
    home: Home = None,
) -> None:
    """Keep a manifest under its name and say which cells are there. Nothing is submitted.

    `job` in the file may be the name of a file with a job spec, beside the manifest.
    """
    from service.cli import render_tables

    with connect(home) as client:
        table = client.keep_table(read_manifest(file), project=project)
    say(table["id"])
    remark(render_tables.counts(table))


@app.command("list")
def list_tables(home: Home = None) -> None:
    """List tables, the last changed first."""
    from service.cli import render_tables

    with connect(home) as client:
        found = client.result_tables()
    if found:
        out().print(render_tables.tables_table(found, time.time()))
    else:
        remark("no tables yet: keep one with `bcd table keep FILE`")


@app.command()
def show(
    name: Name,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, everything.")] = False,
    home: Home = None,
) -> None:
    """Which cells are there, and how their means compare with what is published."""
    from service.cli import render_tables

    with connect(home) as client:
        table = client.result_table(_id(client, name))
    if as_json:
        import json

        say(json.dumps(table, indent=2))
        return
    say(f"{table['name']}: {render_tables.counts(table)}")
    for part in render_tables.report(table):
        out().print(part)


@app.command()
def run(name: Name, home: Home = None) -> None:
    """Submit the cells that are missing, stale or failed; those that are done or under way are left alone."""
    with connect(home) as client:
        made = client.submit_table(_id(client, name))
    for job in made["job_ids"]:
        say(job)
    remark(f"{len(made['job_ids'])} submitted, {made['left']} left alone")


def _id(client: Any, name: str) -> str:
    if name.startswith("table_"):
        return name
    found = [one["id"] for one in client.result_tables() if one["name"] == name]
    if len(found) != 1:
        why = "there is no table of this name" if not found else "tables of several projects have this name, give an id"
        raise Fault(f"{name}: {why}; see `bcd table list`", EXIT_BAD_INPUT)
    return str(found[0])


def read_manifest(path: Path) -> dict[str, Any]:
    """The plain manifest of a file, with the job spec put in."""
    from service.cli.files import make_absolute, read_values

    values = read_values(path)
    if isinstance(values.get("job"), str):
        values["job"] = {
            key: value
            for key, value in read_values(path.parent / values["job"]).items()
            if key not in ("name", "seed", "student", "teacher", "methods")
        }
    if isinstance(values.get("job"), dict):
        make_absolute(values["job"])
    make_absolute(values)  # the teacher's path
    return values
