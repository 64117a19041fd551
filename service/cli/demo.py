"""`bcd demo`: from nothing to the answer whether distillation helped, through the service's API alone.

One teacher, then the same student with and without BCKD over several seeds, compared at the end. The words of the
result are those of the comparison; nothing here knows how it comes out.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.console import EXIT_INTERRUPTED, Fault, out, remark, say
from service.cli.jobs import Home

if TYPE_CHECKING:
    from service.client import Client, Event, Job
    from service.settings import Settings

MIRROR_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """The ids of the demo's jobs."""

    teacher: str
    baselines: list[str]
    distilled: list[str]

    @property
    def all(self) -> list[str]:
        return [self.teacher, *self.baselines, *self.distilled]


class Clock:
    """Seconds by phase, in the order in which the phases ended."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}

    def add(self, phase: str, seconds: float) -> None:
        self._spent[phase] = self._spent.get(phase, 0.0) + max(0.0, seconds)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - start)

    def __str__(self) -> str:
        from service.cli.render import duration

        parts = [f"{name} {duration(spent)}" for name, spent in self._spent.items()]
        return f"{duration(sum(self._spent.values()))} ({', '.join(parts)})"


def demo(
    home: Home = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=20, help="Number of seeds, each with one baseline and one BCKD run.")
    ] = 3,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Training steps of every job, in place of the recipes'.")
    ] = None,
) -> None:
    """Train a teacher, distil students from it, compare them with undistilled ones.

    Needs no data and no GPU; a few minutes on two CPU cores. A service that already runs in this home is used,
    otherwise one is started and stopped again. All jobs stay in the home folder.
    """
    from service.cli.serve import interruptible

    with interruptible():
        try:
            _demo(home, seeds, steps)
        except KeyboardInterrupt:
            remark("interrupted; unfinished jobs stay and go on at the next `bcd up`")
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _demo(home: Path | None, seeds: int, steps: int | None) -> None:
    from service.cli.place import settings_of
    from service.cli.serve import addresses, using_service

    clock = Clock()
    with using_service(home, clock.phase, say) as (settings, client, own):
        began = time.time()
        plan = submit_all(client, seeds, steps, run=uuid.uuid4().hex[:12])
        say(f"submitted {len(plan.all)} jobs: 1 teacher, {seeds} x baseline, {seeds} x BCKD")
        say("first steps in about half a minute (workers start, data are generated)")
        jobs = follow_all(client, plan)
        taught = jobs[plan.teacher]["ended_at"] or began
        clock.add("teacher", taught - began)
        clock.add("students", max(job["ended_at"] or began for job in jobs.values()) - taught)
        show_result(client, plan)
        with clock.phase("mirror"):
            if own and (why := wait_for_mirror(settings, MIRROR_PATIENCE_SECONDS)):
                remark(f"MLflow is not complete ({why}); the next `bcd up` goes on copying")
    say(f"time: {clock}")
    # not the addresses of a service that has stopped: the next one may take other ports
    for line in [f"to look at it all: bcd up --home {settings.home}"] if own else addresses(settings):
        say(line)
    # of the compared ones: the teacher belongs to them by itself
    page = f"/compare?runs={','.join(plan.baselines + plan.distilled)}"
    if own:
        say(f"and then, in the browser: {settings_of(home).api_url}{page}")
    else:
        say(f"in the browser: {settings.api_url}{page}")


def submit_all(client: Client, seeds: int, steps: int | None, *, run: str) -> Plan:
    """Submit everything at once: the distilled students wait for the teacher's job by themselves."""
    teacher = client.submit(recipe("teacher", steps), f"demo-{run}-teacher")["id"]
    baselines, distilled = list[str](), list[str]()
    for seed in range(seeds):
        for name, ids in (("baseline", baselines), ("bckd", distilled)):
            spec = {**recipe(name, steps), "seed": seed}
            if name == "bckd":
                # a teacher of a few steps is no sound one; whoever asks for that gets it
                spec["teacher"] = {"job": teacher} if steps is None else {"job": teacher, "preflight": "warn"}
            ids.append(client.submit(spec, f"demo-{run}-{name}-{seed}")["id"])
    return Plan(teacher, baselines, distilled)


def recipe(name: str, steps: int | None) -> dict[str, Any]:
    """The values of recipes/demo-NAME.yaml."""
    from service.cli.files import read_values

    file = f"demo-{name}.yaml"
    # beside this file in an installed package, at the top of a checkout otherwise
    places = [Path(__file__).with_name("recipes"), Path(__file__).parents[2] / "recipes"]
    for place in places:
        if (place / file).exists():
            values = read_values(place / file)
            if steps is not None:
                values["schedule"] = {**values["schedule"], "steps": steps}
            return values
    raise Fault(f"recipes/{file} is missing from this installation")


def follow_all(client: Client, plan: Plan) -> dict[str, Job]:
    """Show progress until all jobs have ended. The first failure stops the rest and is raised as a `Fault`."""
    from service.cli.board import follow

    def stop_at_failure(event: Event) -> None:
        if event.type == "job" and event.data["state"] in ("failed", "cancelled"):
            raise _JobEnded(event.data)

    try:
        return follow(client, plan.all, out(), detail=False, also=stop_at_failure)
    except _JobEnded as ended:
        cancel_rest(client, plan)
        job = ended.job
        cause = f": {job['cause']}" if job["cause"] else ""
        raise Fault(f"the demo stops because job {job['id']} ({job['name']}) {_ended(job)}{cause}") from None


class _JobEnded(Exception):
    def __init__(self, job: dict[str, Any]):
        self.job = job


def _ended(job: dict[str, Any]) -> str:
    return "failed" if job["state"] == "failed" else "was cancelled"


def cancel_rest(client: Client, plan: Plan) -> None:
    """Cancel what has not ended; a job that ends in the same moment is none of our concern."""
    from service.client import ApiError

    for job_id in reversed(plan.all):  # the waiting ones first, so that none starts in between
        try:
            client.cancel(job_id)
        except ApiError:
            continue


def show_result(client: Client, plan: Plan) -> None:
    from service.cli.render_compare import comparison

    for part in comparison(client.compare(plan.all), details=False):
        out().print(part)


def wait_for_mirror(settings: Settings, patience: float) -> str | None:
    """Wait until MLflow has every job of this home; None when it has, else what is missing."""
    until = time.monotonic() + patience
    while True:
        try:
            told = json.loads((settings.run / "mirror.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = {"pending": None, "error": "the mirror has not started"}
        if told.get("pending") == 0:
            return None
        if time.monotonic() >= until:
            return str(told.get("error") or f"{told.get('pending')} jobs are left")
        time.sleep(0.25)
