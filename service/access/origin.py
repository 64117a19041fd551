"""Requests that a browser sends by itself: a cookie counts only for pages of this very address."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request

from service.errors import Problem

COOKIE = "bcd_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def refuse_cross_site(request: Request, *, always: bool = False) -> None:
    """Raises `Problem` 403 for a request of another page, and for one that changes something and does not prove that
    it comes from our own. `always`: reading takes the proof too.

    Host and port must be equal, which SameSite does not ask: pages on other ports of this machine are the same site.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    reads = request.method in _SAFE and not always
    if site is not None and site != "same-origin" and not (reads and site == "none"):
        raise _foreign(f"Sec-Fetch-Site: {site[:100]}")
    if origin is not None and not _is_own(origin, request.headers.get("host", "")):
        raise _foreign(f"Origin: {origin[:100]}")
    if origin is None and site is None and not reads:
        raise _foreign("neither Origin nor Sec-Fetch-Site")


def _is_own(origin: str, host: str) -> bool:
    # Not the scheme: a proxy that ends TLS hides it from us.
    try:
        place = urlsplit(origin)
    except ValueError:
        return False
    return place.scheme in ("http", "https") and bool(host) and place.netloc.lower() == host.lower()


def _foreign(sent: str) -> Problem:
    return Problem(
        403,
        f"this request may come from a page of another site ({sent}); a browser's session only counts for pages of "
        "this service, programs send a bearer token",
    )
