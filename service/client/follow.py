"""Following what happens: the event stream, logs as they are written, and waiting for jobs to end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import httpx

from service.client.base import segment
from service.client.errors import ApiError, ServiceUnavailable
from service.client.jobs import Jobs
from service.client.types import TERMINAL, Event, Job, LogLine

LONGEST_PAUSE_SECONDS = 5.0
MOST_JOBS_OF_A_STREAM = 50  # the server's limit on `job` parameters


class Follow(Jobs):
    """Streams that survive dropped connections."""

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

    def follow_logs(
        self, job_id: str, *, after: int = 0, attempt: int | None = None, level: str | None = None, q: str | None = None
    ) -> Iterator[LogLine]:
        """Log lines as they come, until the job has ended. None is missed or repeated when the connection drops."""
        last, pause = after, 0.5
        given = {"attempt": attempt, "level": level, "q": q}
        params = {key: value for key, value in given.items() if value is not None}
        while True:
            try:
                address = f"/api/v1/jobs/{segment(job_id)}/logs/stream"
                with self._stream(address, {"Last-Event-ID": str(last)}, params) as response:
                    for name, event_id, text in _parts(response.iter_lines()):
                        if name == "end":
                            return
                        last, pause = int(event_id or last), 0.5
                        line: LogLine = json.loads(text)
                        yield line
            except httpx.TransportError:
                pass
            except ApiError as error:
                if error.status < 500:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _parts(lines: Iterable[str]) -> Iterator[tuple[str, str | None, str]]:
    """(event name, id, data) of server-sent events (HTML standard, section 9.2)."""
    name, event_id, data = "message", None, list[str]()
    for line in lines:
        if not line:
            if data:
                yield name, event_id, "\n".join(data)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "id":
            event_id = value
        elif field == "event":
            name = value


def _parse_stream(lines: Iterable[str]) -> Iterator[Event]:
    """Events whose data is the JSON of one of ours."""
    return (_event(event_id, text) for _, event_id, text in _parts(lines))


def _event(event_id: str | None, text: str) -> Event:
    try:
        value = json.loads(text)
    except ValueError:
        value = {}
    value = value if isinstance(value, dict) else {}
    number = int(event_id) if event_id and event_id.isdigit() else value.get("id")
    return Event(value.get("type", "unknown"), value.get("job_id"), value.get("data") or {}, number, value.get("time"))
