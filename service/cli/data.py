"""`bcd data`: what a data set holds and what is wrong with it, without any service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from service.cli.console import EXIT_FAILED, out, remark, say

if TYPE_CHECKING:
    from bcd.data.check import Report

app = typer.Typer(name="data", help="Look at data sets.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("check")
def check(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SPEC_OR_FOLDER...", help="Specs, or folders of data.", show_default=False)
    ],
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Decode every image: finds hidden damage and copies that were saved again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The whole report as JSON.")] = False,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Folder of a spec's data (data.root).")] = None,
) -> None:
    """Find what is wrong with data sets, and show what they hold.

    Images that do not open, boxes outside the image or without area, unknown classes, duplicate images, the same image
    in train and val; classes, box sizes and image sizes of each split. Exit code 1 when there is a fault.
    """
    import json

    from service.cli.render_data import data_report

    reports = [_check(source, pixels, data_root) for source in sources]
    answers = [report.as_json() for report in reports]
    if as_json:
        say(json.dumps(answers if len(answers) > 1 else answers[0], indent=2))
    else:
        console = out()
        for answer in answers:
            for part in data_report(answer):
                console.print(part, soft_wrap=isinstance(part, Text))  # a path stays in one piece
    if not all(answer["ok"] for answer in answers):
        raise typer.Exit(EXIT_FAILED)


def _check(source: Path, pixels: bool, data_root: Path | None) -> Report:
    if source.is_dir():
        from bcd.data.check import check_folder

        return check_folder(source, pixels=pixels, progress=_progress)
    from bcd.spec import SpecError
    from service.cli.files import read_spec

    if not source.exists():
        raise SpecError([("", f"no such spec file or folder: {source}")])
    spec = read_spec(source, data_root=data_root)
    from bcd.data.check import Model, check_data
    from service.cli.local import data_cache

    student = spec.student
    model = Model(tuple(student.strides), student.prior_scale or Model.prior_scale, spec.schedule.batch_size)
    return check_data(
        spec.data, source=str(source), model=model, pixels=pixels, cache_dir=data_cache(), progress=_progress
    )


def _progress(text: str) -> None:
    """Progress of what takes long; what the readers remark is in the report."""
    if text.startswith(("checking ", "decoding ", "comparing ", "reading ", "drawing ")):
        remark(text, "dim")
