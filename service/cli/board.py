"""Live progress of several jobs: the state behind the display, and the two displays (terminal, plain lines).

The board is fed by events. On a terminal a thread of rich redraws it a few times a second; elsewhere a job gets one
line when its state changes and otherwise at most one every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from bcd.records import TOTAL_STEPS
from service.cli import render
from service.client import ApiError, Client, Event, Job, ServiceUnavailable

PLAIN_SECONDS = 5.0
# Metrics are asked for when an event only says that there are new ones; not more often than this.
FETCH_SECONDS = 1.0


class Board:
    """What is known of some jobs right now. Feed it with `on_event`; it is its own rich renderable."""

    def __init__(
        self,
        job_ids: Sequence[str],
        *,
        fetch: Callable[[str, int | None], dict[str, Any]] | None = None,
        detail: bool = True,
        clock: Callable[[], float] = time.time,
    ):
        """`fetch(job_id, after_step)` returns metric series; `detail`: loss terms below each bar."""
        self.job_ids = list(job_ids)
        self._jobs: dict[str, Job] = {}
        self._values: dict[str, dict[str, float]] = {job_id: {} for job_id in job_ids}
        self._fetched: dict[str, float] = {}
        self._fetch, self._detail, self._clock = fetch, detail, clock

    def on_event(self, event: Event) -> str | None:
        """Take an event in; returns the id of the job that changed, if one did."""
        job_id = event.job_id
        if job_id not in self._values:
            return None
        if event.type == "job":
            job = cast(Job, dict(event.data))
            known = self._jobs.get(job_id)
            if known is not None and len(known["attempts"]) == len(job["attempts"]):
                # metrics may run ahead of the job row; a new attempt may go back to a checkpoint
                job["step"] = max(job["step"], known["step"])
                job["total_steps"] = job["total_steps"] or known["total_steps"]
            self._jobs[job_id] = job
            if job["state"] == "running" and not self._values[job_id]:
                self._ask(job_id)
        elif event.type == "job.metrics":
            self._metrics(job_id, event.data)
        else:
            return None  # a change of state comes as a fresh job right after its event
        return job_id

    @property
    def complete(self) -> bool:
        """Whether something is known of every job."""
        return len(self._jobs) == len(self._values)

    def rows(self) -> list[tuple[Job, dict[str, float]]]:
        """Each known job, under a name that tells it from the others, with its latest metrics."""
        return [(self._labelled(self._jobs[i]), dict(self._values[i])) for i in self.job_ids if i in self._jobs]

    def line(self, job_id: str) -> str | None:
        job = self._jobs.get(job_id)
        return render.progress_line(self._labelled(job), self._values[job_id]) if job is not None else None

    def state(self, job_id: str) -> str | None:
        job = self._jobs.get(job_id)
        return job["state"] if job is not None else None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield render.board(self.rows(), self._clock(), detail=self._detail, width=options.max_width)

    def _labelled(self, job: Job) -> Job:
        alike = sum(other["name"] == job["name"] for other in self._jobs.values())
        label = f"{job['name']} seed {job['seed']}" if alike > 1 else job["name"]
        return cast(Job, {**job, "name": label})

    def _metrics(self, job_id: str, data: dict[str, Any]) -> None:
        values, step = data.get("values"), data.get("step")
        if isinstance(values, dict):
            self._values[job_id].update({k: float(v) for k, v in values.items() if isinstance(v, int | float)})
        elif self._clock() - self._fetched.get(job_id, 0.0) >= FETCH_SECONDS:
            self._ask(job_id)
        if isinstance(step, int):
            self._advance(job_id, step)
        self._learn_length(job_id)

    def _ask(self, job_id: str) -> None:
        if self._fetch is None:
            return
        self._fetched[job_id] = self._clock()
        job = self._jobs.get(job_id)
        try:
            series = self._fetch(job_id, job["step"] - 1 if job and job["step"] > 0 else None)
        except (ServiceUnavailable, ApiError):
            return  # a display can wait; whoever waits for the jobs decides when it has been too long
        for key, one in series.items():
            if one["values"]:
                self._values[job_id][key] = float(one["values"][-1])
                self._advance(job_id, int(one["steps"][-1]))
        self._learn_length(job_id)

    def _learn_length(self, job_id: str) -> None:
        job, total = self._jobs.get(job_id), self._values[job_id].get(TOTAL_STEPS)
        if job is not None and total:
            job["total_steps"] = int(total)

    def _advance(self, job_id: str, step: int) -> None:
        job = self._jobs.get(job_id)
        if job is not None and step > job["step"]:
            job["step"] = step


@contextmanager
def shown(
    board: Board, console: Console, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[Event], None]]:
    """Show the board while the block runs; gives the function that takes events."""
    if console.is_terminal:
        with Live(board, console=console, refresh_per_second=4, transient=False):
            yield lambda event: (board.on_event(event), None)[1]
        return
    states: dict[str, str | None] = {}
    printed: dict[str, float] = {}

    def show(job_id: str) -> None:
        line = board.line(job_id)
        if line is not None:
            states[job_id], printed[job_id] = board.state(job_id), clock()
            console.print(time.strftime("%H:%M:%S"), line, markup=False, soft_wrap=True)

    def take(event: Event) -> None:
        job_id = board.on_event(event)
        if job_id is None or not board.complete:
            return  # until all are known, their names cannot be told apart
        for other in board.job_ids:
            if other not in states:
                show(other)
        moved = board.state(job_id) != states[job_id]
        if moved or clock() - printed[job_id] >= PLAIN_SECONDS:
            show(job_id)

    yield take


def follow(
    client: Client,
    job_ids: Sequence[str],
    console: Console,
    *,
    detail: bool = True,
    also: Callable[[Event], None] = lambda event: None,
) -> dict[str, Job]:
    """Show these jobs until all have ended, and return them by id. `also` sees each event once it has been shown."""

    def fetch(job_id: str, after_step: int | None) -> dict[str, Any]:
        return cast(dict[str, Any], client.metrics(job_id, after_step=after_step))

    board = Board(job_ids, fetch=fetch, detail=detail)
    with shown(board, console) as show:

        def take(event: Event) -> None:
            show(event)
            also(event)

        return client.wait(job_ids, take)
