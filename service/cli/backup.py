"""`bcd backup` and `bcd restore`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from service.cli.console import EXIT_BAD_INPUT, Fault, remark, say
from service.cli.jobs import Home


def backup(
    to: Annotated[Path, typer.Argument(help="Folder of the back-up; made when missing.", show_default=False)],
    home: Home = None,
) -> None:
    """Back up an installation, running or not: its database, its stored files, its secrets.

    Into the same folder again only new files are copied. Keep the folder as safe as the home itself.
    """
    from service.backup.backup import back_up
    from service.cli.place import settings_of

    settings = settings_of(home)
    if not settings.secret_file.exists():
        raise Fault(f"there is no installation in {settings.home}", EXIT_BAD_INPUT)
    try:
        about = back_up(settings, to.absolute(), remark)
    except OSError as error:
        raise Fault(f"cannot write the back-up: {error}") from None
    missing = f", {about['missing']} could not be read" if about["missing"] else ""
    say(f"{to}: {about['rows']:,} rows, {about['files']:,} files ({about['copied']:,} new{missing})")


def restore(
    source: Annotated[Path, typer.Argument(help="Folder of a back-up.", show_default=False)],
    home: Home = None,
) -> None:
    """Fill an empty installation from a back-up. Its service must not run.

    Jobs that were running when the back-up was made go on from their newest checkpoint.
    """
    from service.backup.backup import restore as fill
    from service.backup.rows import BadBackup
    from service.cli.place import settings_of
    from service.cli.serve import client_if_running

    settings = settings_of(home)
    running = client_if_running(settings)
    if running is not None:
        running.close()
        raise Fault(f"bcd is running in {settings.home}: stop it first")
    try:
        about = fill(settings, source.absolute(), remark)
    except BadBackup as error:
        raise Fault(str(error), EXIT_BAD_INPUT) from None
    except OSError as error:
        raise Fault(f"cannot restore: {error}") from None
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(about["of"]))
    say(
        f"{settings.home}: restored the back-up of {when}: {about['rows']:,} rows, {about['files']:,} files, "
        f"{about['jobs queued again']} jobs queued again"
    )
    if about["missing"]:
        remark(f"{about['missing']} files were not in the back-up or damaged; their jobs fall back or lack them")
