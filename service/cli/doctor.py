"""`bcd doctor`: what is wrong with a run before it begins, or with an installation."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from service.cli.console import EXIT_BAD_INPUT, EXIT_FAILED, Fault, out, remark, say
from service.cli.files import SET_HELP
from service.cli.jobs import Home

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.health.installation import Finding
    from service.settings import Settings

STYLES = {"ok": "green", "info": "dim", "warn": "yellow", "fail": "bold red"}
LAST_LINE = {
    "ok": "nothing stands in the way",
    "warn": "it can run; look at the warnings first",
    "fail": "do not run it like this",
}


def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="Spec file (YAML or JSON); none: the installation.", show_default=False)
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", help="Teacher written by bcd, in place of the file's; other settings stay."),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Images of each split that are looked at.")] = 64,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Folder of the data set (data.root).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    invariants: Annotated[
        bool,
        typer.Option("--invariants", help="Of an installation: check what must always be true of its jobs."),
    ] = False,
    home: Home = None,
) -> None:
    """Look at a run before it begins (with FILE), or at an installation (without).

    A run: the teacher's AP against what its file claims, its classes, normalisation and image size; whether student
    and methods can learn from it; sites that learn boxes; what a step needs. An installation: secrets, storage,
    database, open doors; with --invariants whether every job, attempt, metric and copy in MLflow is as it must be.
    Exit code 1 when something fails.
    """
    if file is None:
        _installation(home, invariants, as_json)
        return

    from service.cli.files import read_spec

    spec = read_spec(file, change, data_root=data_root, teacher=teacher)

    import torch

    from bcd.data import DataError
    from bcd.doctor import diagnose
    from service.cli.local import data_cache

    torch.set_num_threads(spec.resources.cpus)
    try:
        report = diagnose(spec, images=images, data_cache=data_cache(), progress=remark)
    except DataError as error:
        raise Fault(str(error), EXIT_BAD_INPUT) from None
    except (ValueError, RuntimeError) as error:
        raise Fault(f"the student cannot be built: {error}", EXIT_BAD_INPUT) from None
    answer = report.as_dict()
    if as_json:
        say(json.dumps(answer, indent=2))
    else:
        for part in shown(answer):
            out().print(part)
    if report.failed:
        raise typer.Exit(EXIT_FAILED)


def shown(answer: Mapping[str, Any]) -> list[RenderableType]:
    """A report as a table, with what to change below each finding that needs it."""
    from service.cli.render import table

    made = table("", "check", "found")
    for one in answer["findings"]:
        text = Text(one["found"])
        if one["advice"]:
            text.append(f"\n{one['advice']}", style="italic")
        made.add_row(Text(one["verdict"], style=STYLES[one["verdict"]]), one["check"], text)
    verdict = answer["verdict"]
    words = answer.get("last_line") or LAST_LINE[verdict]
    last = Text(f"{verdict}: {words} ({answer['seconds']:.1f} s)", style=STYLES[verdict])
    return [made, last]


def _installation(home: Path | None, invariants: bool, as_json: bool) -> None:
    """Look at an installation and say what was found."""
    from service.cli.place import settings_of
    from service.health import installation

    settings, start = settings_of(home), time.perf_counter()
    findings = [vars(one) for one in installation.look(settings)]
    if invariants:
        findings += [vars(one) for one in _invariants(settings)]
    verdict = max((one["verdict"] for one in findings), key=("ok", "info", "warn", "fail").index)
    verdict = "ok" if verdict == "info" else verdict
    answer = {
        "findings": findings,
        "verdict": verdict,
        "seconds": time.perf_counter() - start,
        "last_line": {"ok": "the installation is sound", "warn": "look at the warnings", "fail": "mend this"}[verdict],
    }
    if as_json:
        say(json.dumps(answer, indent=2))
    else:
        for part in shown(answer):
            out().print(part)
    if verdict == "fail":
        raise typer.Exit(EXIT_FAILED)


def _invariants(settings: Settings) -> Iterator[Finding]:
    """What must always be true, of the database and of its copy in MLflow."""
    from service.db import Database
    from service.health import invariants as checks
    from service.health.installation import Finding

    names = {
        "I1": "every accepted job exists, and ends once nothing is left to do",
        "I2": "one result for each evaluation",
        "I3": "metric series are whole",
        "I4": "states followed the table; no terminal state changed",
        "I5": "every attempt was run by one process",
        "I6": "live attempts are within the quotas",
    }
    db = Database(settings.database_url)
    try:
        with db.read() as session:
            broken = checks.check(session)
    finally:
        db.close()
    for name, promise in names.items():
        mine = [one for one in broken if one.invariant == name]
        if not mine:
            yield Finding("ok", name, promise)
        for one in mine[:10]:
            yield Finding("fail", name, f"{one.where}: {one.what}", "please report this with the logs")
        if len(mine) > 10:
            yield Finding("fail", name, f"and {len(mine) - 10} more")
    yield from _mirror(settings)


def _mirror(settings: Settings) -> Iterator[Finding]:
    """I8: MLflow has what the database says of every job that has ended."""
    from service.db import Database
    from service.health.installation import Finding
    from service.mirror import check
    from service.mirror.mlflow_api import Mlflow, MlflowAway, MlflowRefused

    db, mlflow = Database(settings.database_url), Mlflow(settings.mlflow_url)
    try:
        differences = check.compare(settings, db, mlflow)
    except (MlflowAway, MlflowRefused) as error:
        yield Finding("info", "I8", f"MLflow could not be asked: {error}", "the mirror catches up once it is back")
        return
    finally:
        db.close()
        mlflow.close()
    if not differences:
        yield Finding("ok", "I8", "MLflow has every job that has ended as the database has it")
    for one in differences[:10]:
        yield Finding("warn", "I8", str(one), "wait for the mirror to catch up, then look again")
