"""The worker's two calls to the service: fetch the ticket, deliver records. Errors become four named ones."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, TypeVar

import httpx
import psutil
from pydantic import BaseModel, ValidationError

from bcd.records import Record, RecordAck, RecordBatch, Ticket

STALE = "urn:bcd:stale-attempt"
GAP = "urn:bcd:sequence-gap"
_Answer = TypeVar("_Answer", bound=BaseModel)


class Unreachable(Exception):
    """No usable answer: the service is away, overloaded or not ready. Try again later."""


class Stale(Exception):
    """This attempt has ended or was replaced by a newer one: stop, nothing more is accepted."""


class SequenceGap(Exception):
    """The service has not seen what came before; it expects `expected` next."""

    def __init__(self, expected: int):
        self.expected = expected
        super().__init__(f"the service expects record {expected}")


class Refused(Exception):
    """The service understood the batch and will never accept it."""


class Channel(Protocol):
    """How an outbox reaches the service."""

    def ticket(self) -> Ticket: ...

    def deliver(self, records: Sequence[Record]) -> RecordAck: ...


class HttpChannel:
    """`Channel` over the REST API, for one attempt with its own token. One thread at a time."""

    def __init__(self, api_url: str, attempt_id: str, epoch: int, token: str, *, timeout: float = 20.0):
        self._epoch = epoch
        self._path = f"/api/v1/attempts/{attempt_id}"
        headers = {"Authorization": f"Bearer {token}", "X-Process": this_process()}
        # trust_env=False: a proxy from the environment must never see the token or stand in a loopback call's way.
        self._http = httpx.Client(base_url=api_url, headers=headers, timeout=timeout, trust_env=False)

    def ticket(self) -> Ticket:
        return _read(Ticket, self._call("GET", "/ticket", None))

    def deliver(self, records: Sequence[Record]) -> RecordAck:
        batch = RecordBatch(epoch=self._epoch, records=list(records))
        return _read(RecordAck, self._call("POST", "/records", batch.model_dump_json()))

    def _call(self, method: str, path: str, body: str | None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else None
        try:
            answer = self._http.request(method, self._path + path, content=body, headers=headers)
            value = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        if answer.is_success:
            return value
        problem: dict[str, Any] = value if isinstance(value, dict) else {}
        kind = problem.get("type")
        if kind == STALE:
            raise Stale(str(problem.get("detail", "the attempt is no longer current")))
        if kind == GAP and isinstance(problem.get("expected_seq"), int):
            raise SequenceGap(problem["expected_seq"])
        if answer.status_code in (400, 413, 422):
            raise Refused(f"{answer.status_code}: {problem.get('detail')} {problem.get('errors', '')}"[:1000])
        raise Unreachable(f"the service answered {answer.status_code}: {problem.get('detail')}")


def this_process() -> str:
    """`host/pid/birth`: no other process has the same, also not one that gets the pid later."""
    return _named(os.getpid())


@cache
def _named(pid: int) -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())[:120] or "_"
    return f"{host}/{pid}/{psutil.Process(pid).create_time():.2f}"


def _read(kind: type[_Answer], value: Any) -> _Answer:
    try:
        return kind.model_validate(value)
    except ValidationError as error:  # somebody else listens on the service's port
        raise Unreachable(f"the answer is no {kind.__name__}: {error.error_count()} faults") from error
