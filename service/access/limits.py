"""How often one may ask: moving windows in the memory of this process, so each api process counts for itself."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable

import limits
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from service.errors import Problem
from service.settings import Settings

_FEW_KEYS = 10_000  # from so many counted callers on, those who have gone are forgotten
_DENIALS = "20/minute"  # of one token, that are written to the audit record
_NOTED = "1/minute"  # of one ended token


class RateLimits:
    """The limits of one application. `clock` gives Unix seconds and serves Retry-After only."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time):
        self._storage = MemoryStorage()
        self._window = MovingWindowRateLimiter(self._storage)
        self._rates = {
            "token": settings.rate_limit,
            "anonymous": settings.rate_limit_anonymous,
            "failures": settings.rate_limit_failures,
        }
        self._items = {kind: limits.parse(rate) for kind, rate in self._rates.items() if rate != "off"}
        self._denials, self._noted = limits.parse(_DENIALS), limits.parse(_NOTED)
        self._many_keys, self._clock = _FEW_KEYS, clock

    def token(self, token_id: str) -> None:
        """Count a request with a good token. Raises `Problem` 429."""
        self._hit("token", token_id, "with this token")

    def anonymous(self, address: str | None) -> None:
        """Count a request without a token. Raises `Problem` 429."""
        self._hit("anonymous", _network(address), "without a token from this address")

    def failure(self, address: str | None) -> None:
        """Count a request with a wrong token. Raises `Problem` 429; a good token from there is let in all the same."""
        self._hit("failures", _network(address), "with a wrong token from this address")

    def notes_denial(self, token_id: str) -> bool:
        """Whether one more refusal of this token is worth a row in the audit record."""
        return self._window.hit(self._denials, "denied", token_id)

    def notes_ended(self, token_id: str) -> bool:
        """Whether one more use of this ended token is worth a row in the audit record."""
        return self._window.hit(self._noted, "ended", token_id)

    def _hit(self, kind: str, who: str, what: str) -> None:
        item = self._items.get(kind)
        if item is None:
            return
        self._forget_the_gone()
        if not self._window.hit(item, kind, who):
            wait = max(1, math.ceil(self._window.get_window_stats(item, kind, who).reset_time - self._clock()))
            detail = f"too many requests {what}: at most {self._rates[kind]}; try again in {wait} s"
            raise Problem(429, detail, headers={"Retry-After": str(wait)})

    def _forget_the_gone(self) -> None:
        """The storage empties the lists of old hits but keeps their keys: callers from ever new addresses fill it."""
        events = self._storage.events
        if len(events) > self._many_keys:
            for key in [key for key, hits in list(events.items()) if not hits]:
                self._storage.clear(key)
            self._many_keys = max(_FEW_KEYS, 2 * len(events))


def _network(address: str | None) -> str:
    """Whom an address stands for: one IPv4 address; with IPv6 the /64 that one subscriber has."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return address or "-"
    if isinstance(ip, ipaddress.IPv6Address):
        mapped = ip.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
