"""Commands that change jobs: cancel, pause, resume, retry, clone, set."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.console import EXIT_BAD_INPUT, EXIT_FAILED, Fault, remark, say
from service.cli.files import SET_HELP
from service.cli.jobs import Home, Id, connect

if TYPE_CHECKING:
    from service.client.jobs import Verb

Some = Annotated[list[str] | None, typer.Argument(help="Ids of jobs.", show_default=False)]
Filter = Annotated[
    str | None, typer.Option("--filter", help="In place of ids: all that fit, such as 'state:queued tag:night'.")
]


def cancel(ids: Some = None, filter: Filter = None, home: Home = None) -> None:
    """Cancel jobs. A running one stops at its next step."""
    _each("cancel", ids, filter, home)


def pause(ids: Some = None, filter: Filter = None, home: Home = None) -> None:
    """Pause jobs: one that runs writes a checkpoint and stops."""
    _each("pause", ids, filter, home)


def resume(ids: Some = None, filter: Filter = None, home: Home = None) -> None:
    """Let paused jobs go on, from their newest checkpoint."""
    _each("resume", ids, filter, home)


def retry(
    ids: Some = None,
    filter: Filter = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Take nothing over.")] = False,
    home: Home = None,
) -> None:
    """Make new jobs that go on where failed or cancelled ones ended; prints their ids."""
    _each("retry", ids, filter, home, **({"from_start": True} if from_start else {}))


def change(
    ids: Some = None,
    filter: Filter = None,
    priority: Annotated[int | None, typer.Option("--priority", help="-100 to 100; higher goes first.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Add this word. Repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option("--untag", help="Take this word away. Repeatable.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Name for runs that are looked at together.")] = None,
    home: Home = None,
) -> None:
    """Change priority, tags or group of jobs."""
    given: dict[str, Any] = {"priority": priority, "group": group, "add_tags": tag, "remove_tags": untag}
    given = {key: value for key, value in given.items() if value is not None}
    if not given:
        raise Fault("nothing to change: give --priority, --tag, --untag or --group", EXIT_BAD_INPUT)
    _each("change", ids, filter, home, **given)


def clone(
    id: Id,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the new run.")] = None,
    home: Home = None,
) -> None:
    """Submit a job's spec once more, with changes; prints the new id."""
    from service.cli.files import apply_change

    with connect(home) as client:
        spec = dict(client.job(id)["spec"])
        before = deepcopy(spec)
        for one in changes or []:
            apply_change(spec, one)
        if seed is not None:
            spec["seed"] = seed
        patch = {key: value for key, value in spec.items() if before.get(key) != value or key not in before}
        say(client.clone(id, _replacing(before, patch))["id"])


def _replacing(before: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A merge patch that leaves `patch`'s top-level values as they are: keys that are gone within them are removed."""

    def marked(old: Any, new: Any) -> Any:
        if not isinstance(old, dict) or not isinstance(new, dict):
            return new
        gone = {key: None for key in old if key not in new}
        return {**gone, **{key: marked(old.get(key), value) for key, value in new.items()}}

    return {key: marked(before.get(key), value) for key, value in patch.items()}


def _each(verb: Verb, ids: list[str] | None, filter: str | None, home: Path | None, **more: Any) -> None:
    """One verb for many jobs; a line for each. Exit code 1 when one of them was refused, 2 for ids that nobody has."""
    if bool(ids) == bool(filter):
        raise Fault("give ids of jobs, or --filter", EXIT_BAD_INPUT)
    with connect(home) as client:
        outcomes = client.batch(verb, ids or (), filter=filter, **more)
    for one in outcomes:
        if one["problem"] is not None:
            remark(f"{one['id']}: {one['problem']['detail']}")
        elif one["job_id"]:
            say(one["job_id"])
        else:
            say(f"{one['id']} {one['state']}")
    if not outcomes:
        remark("no job fits that")
    problems = [one["problem"]["status"] for one in outcomes if one["problem"] is not None]
    if problems:
        raise typer.Exit(EXIT_BAD_INPUT if set(problems) <= {404, 422} else EXIT_FAILED)
