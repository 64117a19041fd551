"""The request that is being answered, so that whoever notes what was done need not be handed its address and id."""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.access.principal import Principal


@dataclass
class Call:
    """One request. `me` is set once the caller is known."""

    request_id: str
    address: str | None
    me: Principal | None = None


_current: ContextVar[Call | None] = ContextVar("bcd_call", default=None)


def current() -> Call | None:
    """The request that this code runs for; None outside of one (start-up, command line)."""
    return _current.get()


def enter(call: Call) -> Token[Call | None]:
    return _current.set(call)


def leave(token: Token[Call | None]) -> None:
    _current.reset(token)
