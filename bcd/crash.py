"""Points at which a process can be made to die, for tests of what happens then. They do nothing otherwise.

`BCD_CRASH_AT=name[:probability][,name...]` names the points when the process starts; without the variable nothing can
switch them on. A name alone kills whenever the point is reached; with `BCD_CRASH_ONCE=FOLDER` each name kills once,
over all processes that share the folder. The process ends as if by SIGKILL: nothing is flushed, closed or rolled back.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Mapping

# In the order in which a job passes them.
POINTS = (
    "submit.inserted",  # api: the job is in a transaction that is not committed
    "submit.committed",  # api: it is committed and the answer is not sent
    "leader.taken",  # dispatcher: it leads and has not looked at anything
    "leader.renewed",  # dispatcher: it just renewed its leadership
    "claim.written",  # dispatcher: attempts are in a transaction that is not committed
    "claim.committed",  # dispatcher: attempts exist and none is launched
    "launch.asked",  # dispatcher: the cluster was asked and nobody remembers
    "ticket.fetched",  # worker: it knows its job and has recorded nothing
    "outbox.first",  # worker: the first record is in the file and not delivered
    "records.applied",  # api: a batch is in a transaction that is not committed
    "records.committed",  # api: it is committed and not acknowledged
    "result.stored",  # worker: the result is in storage and no record says so
    "final.recorded",  # worker: the final record is in the file and not delivered
    "lost.killed",  # dispatcher: a worker was ended and its attempt is still open
    "replay.half",  # dispatcher: a part of a dead worker's outbox is taken over
    "lost.written",  # dispatcher: the attempt is closed in a transaction that is not committed
    "lost.committed",  # dispatcher: the attempt is closed and its folder is still there
)


def read_plan(environment: Mapping[str, str]) -> dict[str, float]:
    """The probability of each named point. Raises SystemExit for a point or a number that cannot be."""
    plan: dict[str, float] = {}
    for item in filter(None, environment.get("BCD_CRASH_AT", "").split(",")):
        name, _, text = item.strip().partition(":")
        try:
            chance = float(text or 1)
        except ValueError:
            chance = -1.0
        if name not in POINTS or not 0 <= chance <= 1:
            raise SystemExit(f"BCD_CRASH_AT: {item!r} is no point with a probability; points: {', '.join(POINTS)}")
        plan[name] = chance
    return plan


_PLAN = read_plan(os.environ)
_ONCE = os.environ.get("BCD_CRASH_ONCE")
_DICE = random.SystemRandom()  # the global generator may be somebody's seed


def point(name: str) -> None:
    """Die here, if the process was started so."""
    if not _PLAN:
        return
    if _DICE.random() < _PLAN.get(name, 0.0) and (_ONCE is None or _is_first(_ONCE, name)):
        _die(name)


def _is_first(folder: str, name: str) -> bool:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return True
    return False


def _die(name: str) -> None:
    os.write(2, f"BCD_CRASH_AT: dying at {name}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)
