"""Errors as people and programs see them: `application/problem+json` (RFC 9457) for everything that goes wrong.

This file also owns two middlewares: request ids with the last-resort 500, and the limit on bodies.
"""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import process_log

STATEMENT_TIMEOUT = "57014"  # PostgreSQL's query_canceled

log = logging.getLogger("bcd.api")

STALE_ATTEMPT = "urn:bcd:stale-attempt"
SEQUENCE_GAP = "urn:bcd:sequence-gap"
INVALID_SPEC = "urn:bcd:invalid-spec"
MAX_JSON_DEPTH = 64  # our deepest body has about 6 levels
DRAINED_BYTES = 64_000_000  # of a refused body; beyond that the connection is closed while the client sends


class Problem(Exception):
    """An expected fault. `detail` says what to change; `errors` are `(json_pointer, message)` into the body.

    Keyword arguments beyond the named ones become extension members of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        type: str = "about:blank",
        errors: list[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ):
        self.status, self.detail, self.type = status, detail, type
        self.errors, self.headers, self.extra = errors, headers, extra
        super().__init__(detail)


def problem_response(scope: Scope, problem: Problem) -> Response:
    """The answer that carries a problem."""
    body: dict[str, Any] = {
        "type": problem.type,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id(scope),
        **problem.extra,
    }
    if problem.errors is not None:
        body["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in problem.errors]
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return Response(content, problem.status, problem.headers, media_type="application/problem+json")


def request_id(scope: Scope) -> str:
    state = scope.get("state") or {}
    return str(state.get("request_id", "-"))


def install(app: FastAPI) -> None:
    """Answer every fault that reaches the application with a problem."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return problem_response(request.scope, error)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        detail = {
            404: f"nothing is here: {request.url.path}",
            405: f"{request.url.path} does not answer {request.method}",
        }.get(error.status_code, str(error.detail))
        headers = dict(error.headers) if error.headers else None
        return problem_response(request.scope, Problem(error.status_code, detail, headers=headers))

    async def _no_database(request: Request, error: Exception) -> Response:
        log.error("the database did not answer: %s request_id=%s", error, request_id(request.scope))
        detail = "the database does not answer right now; nothing was changed, try again"
        if getattr(getattr(error, "orig", None), "sqlstate", None) == STATEMENT_TIMEOUT:
            detail = "this took the database too long and was given up; ask for less at once"
        return problem_response(request.scope, Problem(503, detail, headers={"Retry-After": "1"}))

    for kind in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(kind, _no_database)

    @app.exception_handler(DataError)
    async def _no_such_value(request: Request, error: DataError) -> Response:
        log.warning("the database refused a value: %s request_id=%s", error.orig, request_id(request.scope))
        return problem_response(request.scope, Problem(422, "a value in this request cannot be stored or looked up"))

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        return problem_response(request.scope, from_validation(list(error.errors())))


def from_validation(faults: list[Any]) -> Problem:
    """A 422 whose `errors` point into the body (`/a/0`) or name the query or path parameter (`?limit`)."""
    errors: list[tuple[str, str]] = []
    for fault in faults[:50]:
        place, *rest = fault["loc"]
        if place == "body":
            pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in rest)
        else:
            pointer = "?" + ".".join(str(part) for part in rest)
        errors.append((pointer, fault["msg"][:1].lower() + fault["msg"][1:]))
    first = f"{errors[0][0] or '/'}: {errors[0][1]}" if errors else "not valid"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Problem(422, f"the request is not valid; {first}{more}", errors=errors)


async def read_body(request: Request) -> bytes:
    """Dependency: the whole body as it came. `BodyLimit` has bounded it."""
    return await request.body()


def parse_json(raw: bytes, *, clean: bool = False) -> Any:
    """Strict JSON: UTF-8, no NaN or Infinity, no doubled keys, at most `MAX_JSON_DEPTH` levels.

    Characters that no database text can hold are refused, or with `clean` replaced by U+FFFD.
    Raises `Problem` 400, which names line and column where there is one.
    """
    if not raw.strip():
        raise Problem(400, "the body is empty; send JSON")
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_distinct)
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8 (byte {error.start}); send JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        raise Problem(
            400,
            f"the body is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}",
            line=error.lineno,
            column=error.colno,
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Problem(400, f"the body is not valid JSON: {error}") from None
    if _depth_exceeds(value, MAX_JSON_DEPTH):
        raise _too_deep()
    if "\\u" in text:
        cleaned = _cleaned(value)
        if not clean and cleaned != value:
            raise Problem(400, "the body holds a NUL or half of a surrogate pair, which no text may hold; leave it out")
        return cleaned
    return value


def _too_deep() -> Problem:
    return Problem(400, f"the body is nested too deeply; at most {MAX_JSON_DEPTH} levels are read")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"the key {key[:100]!r} occurs twice in one object")
        out[key] = value
    return out


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL: PostgreSQL refuses it; lone surrogates: UTF-8 cannot hold them


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return value


_GOOD_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


class RequestIds:
    """Outermost: gives each request an id, returns it as `X-Request-Id`, and answers what nobody caught with 500.

    One line is logged for each answer of 400 and above; a 500 is logged with its traceback, and the client only
    learns the id that finds it in the log.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        rid = given if _GOOD_REQUEST_ID.match(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = rid
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = rid
            await send(message)

        where = f"{scope['method']} {scope['path'][:200]!r}"
        try:
            with process_log.about(request_id=rid):
                await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("500 %s request_id=%s", where, rid)
            if status is not None:
                raise  # half an answer is out: the server must break the connection
            detail = f"the service failed on this request; its log tells why under request_id {rid}"
            await problem_response(scope, Problem(500, detail))(scope, receive, send_with_id)
            return
        if status is not None and status >= 400:
            log.warning("%s %s request_id=%s", status, where, rid)


class BodyLimit:
    """Refuses bodies beyond `limit` bytes, by their Content-Length or, where there is none, as they come in.

    Paths that begin with one of `small_paths` take at most `small` bytes.
    """

    def __init__(self, app: ASGIApp, limit: int, small: int = 0, small_paths: tuple[str, ...] = ()):
        self.app, self.limit, self.small, self.small_paths = app, limit, small, small_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.small if scope["path"].startswith(self.small_paths) else self.limit
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
            await self._drain(receive)
            await problem_response(scope, _too_large(limit))(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    if message.get("more_body"):
                        await self._drain(receive)
                    raise _too_large(limit)
            return message

        await self.app(scope, counted, send)

    async def _drain(self, receive: Receive) -> None:
        """Throw the rest away: closing on a client that still sends would lose it the answer."""
        left = DRAINED_BYTES
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                return


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than {limit} bytes, the most that is read here", limit=limit)
