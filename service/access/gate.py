"""What every request passes before any route, and every answer behind it: host names, sizes, headers, refusals."""

from __future__ import annotations

import logging

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import audit, context
from service.access.limits import RateLimits
from service.db import Database
from service.errors import Problem, problem_response, request_id

log = logging.getLogger("bcd.api")

MAX_URL = 16_384  # bytes of path and query; the longest honest one compares 200 jobs
MAX_HEADERS, MAX_HEADER_BYTES = 100, 32_768

# For all answers that do not set them otherwise. JSON needs nothing, so nothing is allowed.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class SecurityHeaders:
    """Outermost. Answers are not kept by anyone unless their route says so: they may hold a secret."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "private, no-cache" if "etag" in headers else "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Gate:
    """Refuses what no honest client sends: another host's name (a web page must not reach us by pointing its own name
    at loopback), and addresses and headers beyond all measure.
    """

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]):
        self.app, self.allowed = app, frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            problem = self._fault(scope)
            if problem is not None:
                await problem_response(scope, problem)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _fault(self, scope: Scope) -> Problem | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_URL:
            return Problem(414, f"the address is longer than {MAX_URL} bytes")
        if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
            return Problem(431, f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them")
        if "\0" in scope["path"]:
            return Problem(404, "nothing is here: the address holds a NUL character")
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1 or _host_name(hosts[0]) not in self.allowed:
            return Problem(400, "the Host header names a host that this service does not answer for")
        return None


def _host_name(header: str) -> str:
    """The name of a Host header without its port; an IPv6 address keeps its brackets."""
    end = header.find("]") + 1 if header.startswith("[") else header.find(":")
    return (header if end <= 0 else header[:end]).lower()


class Calls:
    """Innermost: lets everything below know the request (`context.current`), and notes what a known caller was
    refused (403) in the audit record.
    """

    def __init__(self, app: ASGIApp, db: Database, limits: RateLimits):
        self.app, self.db, self.limits = app, db, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        call = context.Call(request_id(scope), client[0] if client else None)
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        token = context.enter(call)
        try:
            await self.app(scope, receive, watched)
            if status == 403 and call.me is not None and self.limits.notes_denial(call.me.token_id):
                await to_thread.run_sync(self._note_denial, call, scope["method"], scope["path"])
        finally:
            context.leave(token)

    def _note_denial(self, call: context.Call, method: str, path: str) -> None:
        try:
            with self.db.write() as session:
                audit.record(session, call.me, "access.denied", f"{method} {path}")
        except Exception:  # the answer is out already
            log.exception("a refusal could not be recorded request_id=%s", call.request_id)
