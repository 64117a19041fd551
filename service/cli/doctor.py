"""`bcd doctor`: what is wrong with a run before it begins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from service.cli.console import EXIT_BAD_INPUT, EXIT_FAILED, Fault, out, remark, say
from service.cli.files import SET_HELP

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {"ok": "green", "info": "dim", "warn": "yellow", "fail": "bold red"}
LAST_LINE = {
    "ok": "nothing stands in the way",
    "warn": "it can run; look at the warnings first",
    "fail": "do not run it like this",
}


def doctor(
    file: Annotated[Path, typer.Argument(help="Spec file (YAML or JSON).", show_default=False)],
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", help="Teacher written by bcd, in place of the file's; other settings stay."),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Images of each split that are looked at.")] = 64,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Folder of the data set (data.root).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Look at a run before it begins: data, teacher, pair, loss terms, memory.

    The teacher's AP against what its file claims, its classes, normalisation and image size; whether student and
    methods can learn from it; sites that learn boxes; what a step needs. Exit code 1 when something fails.
    """
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
    last = Text(f"{verdict}: {LAST_LINE[verdict]} ({answer['seconds']:.1f} s)", style=STYLES[verdict])
    return [made, last]
