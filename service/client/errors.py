"""What can go wrong with a request, as exceptions that a person can read."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """The service refused a request. `problem` is its problem document (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]):
        self.status = status
        self.problem = problem
        super().__init__("\n".join(self.lines()))

    @property
    def is_bad_input(self) -> bool:
        """Whether the request itself was at fault (something to change), not the state of the service."""
        return self.status in (400, 404, 413, 415, 422)

    def lines(self) -> list[str]:
        """What went wrong, readable: the detail, then one `pointer: message` for each fault."""
        head = str(self.problem.get("detail") or self.problem.get("title") or f"HTTP {self.status}")
        errors = [(e.get("pointer") or "/", str(e.get("detail", ""))) for e in self.problem.get("errors") or []]
        faults = [f"{pointer}: {text}" for pointer, text in errors if len(errors) > 1 or text not in head]
        tail = []
        if self.status >= 500 and self.problem.get("request_id"):
            tail = [f"request id: {self.problem['request_id']}"]
        return [head, *(f"  {line}" for line in faults), *tail]


class ServiceUnavailable(Exception):
    """Nobody answers at the address, or this home has never been started."""


class Dropped(ServiceUnavailable):
    """The connection broke after the request may have been taken: safe to repeat only what is idempotent."""
