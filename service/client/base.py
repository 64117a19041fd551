"""Requests to one service: address, token, problems as exceptions, streams."""

from __future__ import annotations

import ipaddress
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote

import httpx

from service.client.errors import ApiError, Dropped, ServiceUnavailable
from service.settings import Settings

# The server sends a comment every few seconds on a quiet stream; silence beyond this means a dead connection.
STREAM_SILENCE_SECONDS = 60.0
# How long one call waits in all where the service says "too many requests".
BUSY_PATIENCE_SECONDS = 60.0


class Api:
    """Talks to one service. Usable as a context manager; not shared between threads."""

    def __init__(self, url: str, token: str, *, http: httpx.Client | None = None, hint: str = "bcd up"):
        """`http`: a ready client (tests). `hint`: the command that starts the service, named in errors."""
        self.url = url.rstrip("/")
        self._hint = hint
        self._headers = {"Authorization": f"Bearer {token}"}
        self._http = http or httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(30.0, connect=5.0),
            trust_env=not _is_loopback(self.url),  # a proxy of the environment must not see loopback traffic
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The client of this machine's installation, or of `BCD_URL` with `BCD_TOKEN` when these are set."""
        url, token = os.environ.get("BCD_URL"), os.environ.get("BCD_TOKEN")
        if url and token:
            return cls(url, token)
        if url and not _is_loopback(url):  # this machine's token is nothing for another one to see
            raise ServiceUnavailable(f"BCD_URL names another machine, {url}: set BCD_TOKEN to its token too")
        hint = f"bcd up --home {settings.home}"
        try:
            token = settings.token_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise ServiceUnavailable(f"no service at {settings.home}: start it with `{hint}`") from None
        except OSError as error:
            raise ServiceUnavailable(f"cannot read the token {settings.token_file}: {error.strerror}") from None
        return cls(url or settings.api_url, token, hint=hint)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, path: str, **params: Any) -> Any:
        given = {key: value for key, value in params.items() if value is not None}
        return json_of(self._request("GET", path, params=given))

    def _request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        patience = BUSY_PATIENCE_SECONDS
        while True:
            try:
                response = self._http.request(method, path, headers={**self._headers, **(headers or {})}, **more)
            except httpx.ConnectError:
                raise ServiceUnavailable(self._not_running()) from None
            except httpx.TransportError as error:
                raise Dropped(f"{self.url} did not answer: {error or type(error).__name__}") from None
            # A request that came too often was not looked at: any method may be repeated.
            pause = _retry_after(response) if response.status_code == 429 else None
            if pause is None or pause > patience:
                _raise_for_problem(response)
                return response
            patience -= pause
            time.sleep(pause)

    def _stream(self, path: str, headers: dict[str, str] | None = None, params: dict[str, Any] | None = None) -> Stream:
        request = self._http.build_request(
            "GET",
            path,
            headers={**self._headers, **(headers or {})},
            params=params,
            timeout=httpx.Timeout(30.0, connect=5.0, read=STREAM_SILENCE_SECONDS),
        )
        return Stream(self._http, request)

    def _not_running(self) -> str:
        return f"the service is not running at {self.url}: start it with `{self._hint}`"

    def _post(self, path: str, body: Any = None, *, method: str = "POST", **params: Any) -> Any:
        """Send a body, if there is one. The answer's JSON, None where it has none."""
        given = {key: value for key, value in params.items() if value is not None}
        more = {} if body is None else {"json": body}
        answer = self._request(method, path, params=given, **more)
        return json_of(answer) if answer.content else None

    def _make(self, path: str, body: Any, key: str | None, params: Mapping[str, Any]) -> Any:
        """Make something new. A request that was dropped is sent again with the same key: nothing is made twice."""
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        more = {} if body is None else {"json": body}
        for last in (False, False, True):
            try:
                return json_of(self._request("POST", path, headers=headers, params=dict(params), **more))
            except Dropped as error:
                if last:
                    raise ServiceUnavailable(str(error)) from None
            except ApiError as error:  # the database is away for a moment
                if last or error.status != 503:
                    raise
            time.sleep(1.0)
        raise AssertionError("unreachable")


class Stream:
    """`with` over a streamed response whose problem document, if any, has been raised."""

    def __init__(self, http: httpx.Client, request: httpx.Request):
        self._http, self._request = http, request

    def __enter__(self) -> httpx.Response:
        self._response = self._http.send(self._request, stream=True)
        if self._response.is_error:
            try:
                self._response.read()
                _raise_for_problem(self._response)
            finally:
                self._response.close()
        return self._response

    def __exit__(self, *_: object) -> None:
        self._response.close()


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the answer asks to wait; None where it names no number."""
    try:
        return max(float(response.headers["Retry-After"]), 0.1)
    except (KeyError, ValueError):
        return None


def json_of(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise ServiceUnavailable(f"something that is not bcd answers at {response.request.url}") from None


def _raise_for_problem(response: httpx.Response) -> None:
    if not response.is_error:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"HTTP {response.status_code} from {response.request.url}"}
    raise ApiError(response.status_code, problem)


def segment(text: str) -> str:
    """One path segment: an id that a person typed must not change the route."""
    return quote(text.strip(), safe="") or "-"


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
