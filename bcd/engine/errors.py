"""Faults that a run can report in one line."""

from __future__ import annotations

# The code of a run of several processes of which one ended without a word: killed, or out of memory.
PROCESS_DIED = "process-died"


class JobError(Exception):
    """An expected failure of a job: bad data, a teacher that does not fit, a loss that is not finite.

    `code` is stable and short; the message says what to change.
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[JobError], tuple[str, str]]:
        return type(self), (self.code, str(self))


class Cancelled(Exception):
    """The run was asked to stop; a checkpoint was written first."""
