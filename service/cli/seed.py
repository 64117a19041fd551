"""`bcd seed-demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.console import EXIT_BAD_INPUT, Fault, remark, say
from service.cli.jobs import Home


def seed_demo(
    jobs: Annotated[int, typer.Option(help="Finished jobs, in studies of 36.", min=0, max=200_000)] = 5000,
    runs: Annotated[int, typer.Option(help="Runs of one large comparison.", min=0, max=200)] = 100,
    points: Annotated[int, typer.Option(help="Points of each of their curves.", min=1, max=12_000)] = 10_000,
    trials: Annotated[int, typer.Option(help="Trials of a sweep.", min=0, max=10_000)] = 200,
    home: Home = None,
) -> None:
    """Fill a new installation with generated data, to look at pages and to measure them.

    Nothing of it was ever trained. Everything is in the project `generated` and carries that word in its name; an
    installation that has jobs is refused, and MLflow gets no copy.
    """
    from service.cli.place import settings_of
    from service.cli.serve import client_if_running
    from service.seed.write import NotEmpty, Size, seed

    settings = settings_of(home)
    running = client_if_running(settings)
    if running is not None:
        running.close()
        raise Fault(f"bcd is running in {settings.home}: stop it first, or give another --home", EXIT_BAD_INPUT)
    try:
        counts = seed(settings, Size(jobs, runs, points, trials), remark)
    except NotEmpty:
        raise Fault(
            f"{settings.home} has jobs already; generated data needs an installation of its own: give another --home",
            EXIT_BAD_INPUT,
        ) from None
    say(
        f"generated: {counts.get('jobs', 0):,} jobs, {counts['points']:,} points, "
        f"{counts.get('trials', 0):,} runs of a sweep"
    )
    say(f"look at it: bcd up --home {settings.home}")
