"""Waiting out faults of the machine, such as storage that is full or away: no reason to lose a night's work."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from bcd.storage import StorageUnavailable

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between two tries
LOOK_EVERY = 0.2  # seconds between two looks whether there is still anything to wait for
_OF_THE_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE})
_Result = TypeVar("_Result")


def may_pass(error: BaseException) -> bool:
    """Is this a fault of the machine, which a later try may find cured?"""
    return isinstance(error, StorageUnavailable) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE)


def patiently(
    act: Callable[[], _Result], *, seconds: float, give_up: Callable[[], bool], tell: Callable[[str], None]
) -> _Result:
    """What `act` returns, tried again for so long while its fault may pass; then, or on `give_up`, raises the fault."""
    since, pause, told = time.monotonic(), SHORTEST_PAUSE, False
    while True:
        try:
            result = act()
        except OSError as error:
            if not may_pass(error) or not _wait(pause, since + seconds, give_up):
                raise
            if not told:
                tell(f"{error}; waiting for it to get better")
            told, pause = True, min(2 * pause, LONGEST_PAUSE)
        else:
            if told:
                tell(f"better again after {time.monotonic() - since:.0f} s")
            return result


def _wait(pause: float, deadline: float, give_up: Callable[[], bool]) -> bool:
    """Let the pause pass; False when there is nothing more to wait for."""
    until = time.monotonic() + pause
    while (now := time.monotonic()) < until:
        if give_up() or now > deadline:
            return False
        time.sleep(LOOK_EVERY)
    return True
