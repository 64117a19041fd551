"""A small typed client of the REST API: what the command line uses, and what a script or notebook can use.

It owns the mapping from HTTP to Python: problem documents become `ApiError`, an unreachable service becomes
`ServiceUnavailable`, and the event stream survives dropped connections. It imports no part of the server.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict
from urllib.parse import quote

import httpx

from bcd.spec import JobSpec
from service.settings import Settings

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
# The server sends a comment every few seconds on a quiet stream; silence beyond this means a dead connection.
STREAM_SILENCE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 5.0
MOST_JOBS_OF_A_STREAM = 50  # the server's limit on `job` parameters


class Job(TypedDict):
    """A job as `GET /api/v1/jobs/{id}` shows it. Times are Unix seconds."""

    id: str
    name: str
    state: str
    cause: str | None
    spec: dict[str, Any]
    step: int
    total_steps: int
    teacher_job_id: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    attempts: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
    seed: int
    methods: list[str]


class JobRow(TypedDict):
    """A job as the list shows it: all but its spec and attempts. Times are Unix seconds."""

    id: str
    name: str
    project: str
    state: str
    cause: str | None
    wait_reason: str | None
    methods: list[str]
    detector: str
    dataset: str
    seed: int
    teacher_job_id: str | None
    group: str | None
    tags: list[str]
    priority: int
    step: int
    total_steps: int
    created_by: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    evaluation: dict[str, float | None] | None
    metrics: dict[str, dict[str, Any]]


class JobPage(TypedDict):
    """One page of jobs, newest first."""

    items: list[JobRow]
    next_cursor: str | None


class Series(TypedDict):
    """One metric over the steps of a job."""

    steps: list[int]
    values: list[float]
    times: list[float]


class LogPage(TypedDict):
    """Log lines `{id, time, level, text, attempt}`; `next` is the id to continue after."""

    lines: list[dict[str, Any]]
    next: int | None


class Artifact(TypedDict):
    """A stored file of a job: checkpoint, result, predictions."""

    id: str
    type: str
    name: str
    step: int
    size: int
    sha256: str
    created_at: NotRequired[float]


@dataclass(frozen=True)
class Event:
    """One line of the event stream.

    Beside the server's own types (`job.state`, `job.metrics`, ...) the client makes three: `stream.open` after each
    (re)connection, `stream.poll` while there is no stream (look for yourself), and `job` with a fresh job in `data`.
    """

    type: str
    job_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    id: int | None = None
    time: float | None = None


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


class Client:
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

    # ------------------------------------------------------------------------------------------------ jobs

    def submit(self, spec: JobSpec | dict[str, Any], idempotency_key: str | None = None) -> Job:
        """Hand in a job. Safe to repeat with the same key; without one a fresh key guards this call alone."""
        body = spec.model_dump(mode="json", exclude_unset=True) if isinstance(spec, JobSpec) else spec
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        for last in (False, False, True):
            try:
                job: Job = _json(self._request("POST", "/api/v1/jobs", json=body, headers=headers))
                return job
            except _Dropped as error:
                if last:
                    raise ServiceUnavailable(str(error)) from None
                time.sleep(0.5)
        raise AssertionError("unreachable")

    def job(self, job_id: str) -> Job:
        job: Job = self._get(f"/api/v1/jobs/{_segment(job_id)}")
        return job

    def jobs(self, *, state: str | None = None, limit: int = 50, cursor: str | None = None) -> JobPage:
        page: JobPage = self._get("/api/v1/jobs", state=state, limit=limit, cursor=cursor)
        return page

    def cancel(self, job_id: str) -> Job:
        job: Job = _json(self._request("POST", f"/api/v1/jobs/{_segment(job_id)}/cancel"))
        return job

    def metrics(
        self, job_id: str, *, keys: Sequence[str] | None = None, after_step: int | None = None
    ) -> dict[str, Series]:
        """Series by key. `keys`: only these; `after_step`: only later steps."""
        found: dict[str, Series] = self._get(
            f"/api/v1/jobs/{_segment(job_id)}/metrics", key=list(keys) if keys else None, after_step=after_step
        )["series"]
        return found

    def logs(self, job_id: str, *, after: int | None = None) -> LogPage:
        page: LogPage = self._get(f"/api/v1/jobs/{_segment(job_id)}/logs", after=after)
        return page

    def evaluations(self, job_id: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._get(f"/api/v1/jobs/{_segment(job_id)}/evaluations")["items"]
        return items

    def artifacts(self, job_id: str) -> list[Artifact]:
        items: list[Artifact] = self._get(f"/api/v1/jobs/{_segment(job_id)}/artifacts")["items"]
        return items

    def compare(self, job_ids: Iterable[str]) -> dict[str, Any]:
        """The comparison of several finished jobs: groups over seeds, differences, intervals, verdicts."""
        found: dict[str, Any] = self._get("/api/v1/compare", ids=",".join(job_ids))
        return found

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = self._get("/api/v1/schema")
        return found

    def healthy(self) -> bool:
        """Whether the service answers at all."""
        try:
            return self._http.get("/healthz", timeout=2.0).status_code == 200
        except httpx.TransportError:
            return False

    def download(self, artifact: Artifact, path: Path) -> Path:
        """Write the artifact to the file `path`; it appears only when complete and its hash is right."""
        part = path.with_name(path.name + ".part")
        digest = hashlib.sha256()
        try:
            address = f"/api/v1/artifacts/{_segment(artifact['id'])}/content"
            with self._stream(address) as response, part.open("wb") as file:
                for block in response.iter_bytes():
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != artifact["sha256"]:
                raise ServiceUnavailable(f"{artifact['name']} arrived damaged (its hash differs): try again")
            part.replace(path)
        except httpx.TransportError as error:
            raise ServiceUnavailable(f"the download of {artifact['name']} broke off: {error}") from None
        finally:
            part.unlink(missing_ok=True)
        return path

    # ---------------------------------------------------------------------------------------------- events

    def events(self, job_ids: Sequence[str], after: int | None = None) -> Iterator[Event]:
        """Events of these jobs for ever, resuming after the last one seen whenever the connection drops.

        They begin behind the event `after`; None: with the first that ever was, -1: with the next one.
        While there is no stream, a `stream.poll` event comes every few seconds instead, so that a caller who looks
        for himself on `stream.open` and `stream.poll` misses nothing. Raises `ApiError` when the service refuses.
        """
        last, pause = after, 0.5
        wanted = set(job_ids)
        asked = (
            list(job_ids) if len(job_ids) <= MOST_JOBS_OF_A_STREAM else []
        )  # else: all, and the rest is dropped here
        while True:
            headers = {"Last-Event-ID": str(last)} if last is not None and last >= 0 else {}
            params = {"job": asked, **({"after": [str(last)]} if last is not None and last < 0 else {})}
            try:
                with self._stream("/api/v1/events", headers, params) as response:
                    yield Event("stream.open")
                    for event in _parse_stream(response.iter_lines()):
                        last, pause = event.id if event.id is not None else last, 0.5
                        if event.job_id in wanted:
                            yield event
            except httpx.TransportError:
                pass
            except ApiError as error:
                if error.status < 500:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            yield Event("stream.poll")

    def wait(
        self,
        job_ids: Sequence[str],
        on_event: Callable[[Event], None] = lambda event: None,
        *,
        patience: float = 120.0,
    ) -> dict[str, Job]:
        """Block until every job has ended and return them by id.

        `on_event` sees every event, and a `job` event with the fresh job each time one may have changed. An
        unreachable service is waited for up to `patience` seconds (it may be restarting).
        """
        jobs = {job_id: self.job(job_id) for job_id in job_ids}
        for job in jobs.values():
            on_event(Event("job", job["id"], dict(job)))
        reached = time.monotonic()
        if all(job["state"] in TERMINAL for job in jobs.values()):
            return jobs
        for event in self.events(job_ids, after=-1):
            on_event(event)
            if event.type in ("stream.open", "stream.poll"):
                stale = [job_id for job_id, job in jobs.items() if job["state"] not in TERMINAL]
            elif event.type != "job.metrics" and event.job_id in jobs:
                stale = [event.job_id]
            else:
                stale = []
            try:
                for job_id in stale:
                    jobs[job_id] = self.job(job_id)
                    on_event(Event("job", job_id, dict(jobs[job_id])))
                reached = time.monotonic()
            except (ServiceUnavailable, ApiError) as error:
                refused = isinstance(error, ApiError) and error.status < 500
                if refused or time.monotonic() - reached > patience:
                    raise
            if all(job["state"] in TERMINAL for job in jobs.values()):
                break
        return jobs

    # --------------------------------------------------------------------------------------------- plumbing

    def _get(self, path: str, **params: Any) -> Any:
        given = {key: value for key, value in params.items() if value is not None}
        return _json(self._request("GET", path, params=given))

    def _request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, headers={**self._headers, **(headers or {})}, **more)
        except httpx.ConnectError:
            raise ServiceUnavailable(self._not_running()) from None
        except httpx.TransportError as error:
            raise _Dropped(f"{self.url} did not answer: {error or type(error).__name__}") from None
        _raise_for_problem(response)
        return response

    def _stream(
        self, path: str, headers: dict[str, str] | None = None, params: dict[str, list[str]] | None = None
    ) -> _Stream:
        request = self._http.build_request(
            "GET",
            path,
            headers={**self._headers, **(headers or {})},
            params=params,
            timeout=httpx.Timeout(30.0, connect=5.0, read=STREAM_SILENCE_SECONDS),
        )
        return _Stream(self._http, request)

    def _not_running(self) -> str:
        return f"the service is not running at {self.url}: start it with `{self._hint}`"


class _Dropped(ServiceUnavailable):
    """The connection broke after the request may have been taken: safe to repeat only what is idempotent."""


class _Stream:
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


def _json(response: httpx.Response) -> Any:
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


def _parse_stream(lines: Iterable[str]) -> Iterator[Event]:
    """Server-sent events (HTML standard, section 9.2) whose data is the JSON of one of our events."""
    event_id, data = None, list[str]()
    for line in lines:
        if not line:
            if data:
                yield _event(event_id, "\n".join(data))
            data = []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "id":
            event_id = value


def _event(event_id: str | None, text: str) -> Event:
    try:
        value = json.loads(text)
    except ValueError:
        value = {}
    value = value if isinstance(value, dict) else {}
    number = int(event_id) if event_id and event_id.isdigit() else value.get("id")
    return Event(value.get("type", "unknown"), value.get("job_id"), value.get("data") or {}, number, value.get("time"))


def _segment(text: str) -> str:
    """One path segment: an id that a person typed must not change the route."""
    return quote(text.strip(), safe="") or "-"


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
