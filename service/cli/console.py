"""The two consoles of the command line, its exit codes, and how an expected fault is told to a person."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.text import Text

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
WIDEST = 100


class Fault(Exception):
    """An expected fault: printed as lines on stderr, never with a traceback."""

    def __init__(self, text: str, code: int = EXIT_FAILED):
        self.code = code
        super().__init__(text)


def out() -> Console:
    """The console of results. Tables stay within 100 columns; a pipe gets all of them."""
    return _console(stderr=False)


def err() -> Console:
    """The console of faults and remarks."""
    return _console(stderr=True)


def say(text: str) -> None:
    """One plain line of result on stdout: no markup, no wrapping, so that scripts can read it."""
    out().print(Text(text), soft_wrap=True)


def remark(text: str, style: str = "") -> None:
    """Lines on stderr, wrapped nowhere."""
    err().print(Text(text, style=style), soft_wrap=True)


def fault_lines(error: BaseException) -> tuple[list[str], int] | None:
    """What to print for an expected fault and the exit code, or None when the fault is not expected.

    Looks classes up by name where importing them would load a training stack.
    """
    from bcd.spec import SpecError
    from service.client import ApiError, ServiceUnavailable

    if isinstance(error, Fault):
        return str(error).splitlines(), error.code
    if isinstance(error, SpecError):
        return [f"{pointer}: {message}" if pointer else message for pointer, message in error.errors], EXIT_BAD_INPUT
    if isinstance(error, ApiError):
        return error.lines(), EXIT_BAD_INPUT if error.is_bad_input else EXIT_FAILED
    if isinstance(error, ServiceUnavailable):
        return [str(error)], EXIT_FAILED
    if isinstance(error, BrokenPipeError):
        return [], EXIT_FAILED
    return None


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = int(os.environ["COLUMNS"]) if os.environ.get("COLUMNS", "").isdigit() else None
    if width is None and not stream.isatty():
        width = WIDEST
    console = Console(stderr=stderr, highlight=False, width=width)
    if console.width > WIDEST and width is None:
        console.width = WIDEST
    return console
