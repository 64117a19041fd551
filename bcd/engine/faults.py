"""Bad news from several processes of one run: in which form it travels, and which of it is the cause."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Sequence

from bcd.engine.errors import PROCESS_DIED, Cancelled, JobError

# Seconds after the first bad news: time for the process where the fault began to say so.
GRACE = 3.0


def most_telling(errors: Sequence[BaseException]) -> BaseException:
    """The cause among the errors of a run's processes, of which the others are mostly consequences."""
    return min(errors, key=_place)


def is_cause(error: BaseException) -> bool:
    """Whether an error cannot be the consequence of another process's fault."""
    return _place(error) == 1


def _place(error: BaseException) -> int:
    """A job's fault tells most, then a dead process, then any other error."""
    if isinstance(error, JobError):
        return 2 if error.code == PROCESS_DIED else 1
    return 1 if isinstance(error, Cancelled) else 3


def portable(error: BaseException) -> BaseException:
    """The error in a form that can be sent to another process, with its traceback as a note."""
    if isinstance(error, JobError):
        return error
    text = "".join(traceback.format_exception(error))
    try:
        copy: BaseException = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(text)
    return copy


def process_died(rank: int, world: int, how: str) -> JobError:
    return JobError(PROCESS_DIED, f"process {rank + 1} of {world} {how}")
