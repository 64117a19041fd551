"""`bcd token`, `bcd user`, `bcd project` and `bcd cluster`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.text import Text

from service.cli.console import out, remark, say
from service.cli.jobs import Home, connect

token = typer.Typer(name="token", help="API tokens.", no_args_is_help=True)
user = typer.Typer(name="user", help="Users (administrators).", no_args_is_help=True)
project = typer.Typer(name="project", help="Projects: quotas and members.", no_args_is_help=True)
DAY = 86400.0


@token.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for.", show_default=False)],
    scope: Annotated[str, typer.Option("--scope", help="read, write or admin.")] = "write",
    only: Annotated[str | None, typer.Option("--project", help="Only for this project.")] = None,
    days: Annotated[float | None, typer.Option("--days", help="It ends after so many days. [default: never]")] = None,
    of: Annotated[str | None, typer.Option("--user", help="For another user (administrators).")] = None,
    home: Home = None,
) -> None:
    """Make a token and print it. It is shown this once."""
    more: dict[str, Any] = {"project": only, "expires_in": days * DAY if days is not None else None, "user": of}
    with connect(home) as client:
        made = client.create_token(name, scope, **{key: value for key, value in more.items() if value is not None})
    say(made["token"])
    remark(f"token {made['id']} of {made['user']}, scope {made['scope']}; it is shown this once", style="dim")


@token.command("list")
def list_tokens(home: Home = None) -> None:
    """List one's own tokens."""
    with connect(home) as client:
        found = client.tokens()
    _table(
        ("id", "name", "scope", "project", "last used", "ends"),
        [
            (one["id"], one["name"], one["scope"], one["project"] or "all", _when(one["last_used_at"]),
             "revoked" if one["revoked_at"] else _when(one["expires_at"]))
            for one in found
        ],
    )  # fmt: skip


@token.command("revoke")
def revoke_token(
    id: Annotated[str, typer.Argument(help="Id of a token.", show_default=False)], home: Home = None
) -> None:
    """Revoke a token at once."""
    with connect(home) as client:
        client.revoke_token(id)
    say(f"{id} revoked")


@user.command("create")
def create_user(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and . _ @ + -", show_default=False)],
    admin: Annotated[bool, typer.Option("--admin", help="Administrator of the whole installation.")] = False,
    home: Home = None,
) -> None:
    """Make a user; give them a token with `bcd token create --user NAME`."""
    with connect(home) as client:
        say(client.create_user(name, is_admin=admin)["name"])


@user.command("list")
def list_users(home: Home = None) -> None:
    """List users."""
    with connect(home) as client:
        found = client.users()
    _table(
        ("name", "administrator", "disabled"),
        [(one["name"], "yes" if one["is_admin"] else "", _when(one["disabled_at"], "")) for one in found],
    )


@user.command("disable")
def disable_user(
    name: Annotated[str, typer.Argument(help="Name of a user.", show_default=False)],
    undo: Annotated[bool, typer.Option("--undo", help="Let them in again.")] = False,
    home: Home = None,
) -> None:
    """Let none of a user's tokens in any more."""
    with connect(home) as client:
        client.change_user(name, disabled=not undo)
    say(f"{name} {'enabled' if undo else 'disabled'}")


@project.command("create")
def create_project(
    id: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.", show_default=False)],
    description: Annotated[str, typer.Option("--description")] = "",
    max_jobs: Annotated[int | None, typer.Option("--max-jobs", help="Most jobs that run at once.")] = None,
    max_gpus: Annotated[float | None, typer.Option("--max-gpus", help="Most GPUs in use at once.")] = None,
    home: Home = None,
) -> None:
    """Make a project."""
    with connect(home) as client:
        made = client.create_project(id, description=description, max_jobs=max_jobs, max_gpus=max_gpus)
    say(made["id"])


@project.command("list")
def list_projects(home: Home = None) -> None:
    """List the projects that one may look at."""
    with connect(home) as client:
        found = client.projects()
    _table(
        ("id", "role", "jobs at most", "GPUs at most", "description"),
        [
            (one["id"], one["role"] or "", _limit(one["max_jobs"]), _limit(one["max_gpus"]), one["description"])
            for one in found
        ],
    )


@project.command("member")
def set_member(
    id: Annotated[str, typer.Argument(help="Id of a project.", show_default=False)],
    name: Annotated[str, typer.Argument(help="Name of a user.", show_default=False)],
    role: Annotated[str, typer.Argument(help="viewer, editor or admin; none: take them out.", show_default=False)],
    home: Home = None,
) -> None:
    """Give a user a role in a project."""
    with connect(home) as client:
        if role == "none":
            client.remove_member(id, name)
        else:
            client.set_member(id, name, role)
    say(f"{name} {role} in {id}")


def cluster(home: Home = None) -> None:
    """Show machines, what is in use, and the queue."""
    from service.cli import render_cluster

    with connect(home) as client:
        answer = client.cluster()
    for part in render_cluster.cluster(answer, time.time()):
        out().print(part)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from service.cli.render import table

    made = table(*columns)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    out().print(made)


def _limit(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _when(moment: float | None, never: str = "never") -> str:
    return never if moment is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
