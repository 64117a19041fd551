"""Wherever a dispatcher dies, the next one goes on: every job succeeds once and no rule is broken on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from bcd import crash
from service.dispatch.loop import Dispatcher
from service.health.invariants import Limits, check
from service.models import Attempt, Job, Project

from .conftest import LEASE, RUNNING, SUCCEEDED, World, checkpoint, numbered

POINTS = [name for name in crash.POINTS if name.partition(".")[0] in ("leader", "claim", "launch", "lost", "replay")]
STEPS = 40


class Died(BaseException):
    """In place of SIGKILL: nothing catches it, and the transaction that it leaves is rolled back."""


def losses(first: int = 1, last: int = STEPS) -> list[dict[str, Any]]:
    return [{"kind": "metric", "step": step, "values": {"loss": 1.0}} for step in range(first, last + 1)]


EVALUATION = {"kind": "evaluation", "step": STEPS, "name": "final", "protocol": "p", "results": {"AP": 1.0}}
RESULT = {**checkpoint(STEPS, "d"), "type": "result", "name": "student.safetensors"}
WHOLE = [RUNNING, *losses(), EVALUATION, RESULT, SUCCEEDED]


class Story:
    """Four jobs: two simply succeed; one's first worker dies and leaves a long outbox, one's falls silent."""

    def __init__(self, world: World):
        self.world, self.deaths = world, 0
        world.lead.resign()
        with world.db.write() as session:
            session.get(Project, "default").max_jobs = 2
        self.plain, self.silent, self.dead, self.last = (world.submit(seed=seed) for seed in range(4))
        self.loop = self.new_dispatcher()

    @property
    def jobs(self) -> list[str]:
        return [self.plain, self.silent, self.dead, self.last]

    def new_dispatcher(self) -> Dispatcher:
        lead = self.world.candidate(f"dispatcher {self.deaths}")
        return Dispatcher(lead, lambda: (self.world.new_reconciler(lead), []))

    def round(self) -> None:
        self.world.now += 4
        try:
            self.loop.round()
        except Died:
            self.deaths += 1
            self.loop = self.new_dispatcher()  # it leads once the dead one's time is over
        for job in self.jobs:
            attempts = self.world.attempts(job)
            if attempts and attempts[-1].state in ("starting", "running"):
                self.work(job, attempts[-1])

    def work(self, job: str, attempt: Attempt) -> None:
        """What the attempt's worker does now."""
        world, state = self.world, self.world.backend.workers.get(attempt.actor)
        if state != "alive":
            return
        with world.db.write() as session:
            session.get(Attempt, attempt.id).process = f"process of {attempt.id}"
        if job == self.silent and attempt.number == 1:
            world.report(attempt, RUNNING, *losses(last=10))
            world.backend.workers[attempt.actor] = "unknown"
        elif job == self.dead and attempt.number == 1:
            said = [RUNNING, *losses(last=20), *({"kind": "log", "level": "info", "text": "x"} for _ in range(600))]
            path = world.settings.work / attempt.id / "outbox.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(record.model_dump_json() + "\n" for record in numbered(said, 1)))
            world.backend.workers[attempt.actor] = "dead"
        else:
            world.report(attempt, *WHOLE)
            world.backend.workers[attempt.actor] = "dead"

    def play(self, more: Callable[[], bool] = lambda: False) -> None:
        for _ in range(200):
            self.round()
            if {self.world.job(job).state for job in self.jobs} == {"succeeded"} and not more():
                return
        pytest.fail(str([(self.world.job(job).state, self.world.job(job).cause) for job in self.jobs]))


@pytest.fixture
def story(world: World) -> Story:
    return Story(world)


def arm(monkeypatch: pytest.MonkeyPatch, name: str, deaths: int = 1) -> list[str]:
    died: list[str] = []

    def die(point: str) -> None:
        if len(died) < deaths:
            died.append(point)
            raise Died(point)

    monkeypatch.setattr(crash, "_PLAN", {name: 1.0})
    monkeypatch.setattr(crash, "_die", die)
    return died


@pytest.mark.parametrize("point", POINTS)
def test_a_dispatcher_that_dies_there_is_followed_by_one_that_finishes_everything(story, point, monkeypatch):
    died = arm(monkeypatch, point, deaths=2)
    story.play()
    assert died == [point] * len(died) != []
    assert story.deaths == len(died)
    assert_all_rules_hold(story)


def test_the_same_story_without_any_death(story):
    story.play()
    assert_all_rules_hold(story)
    assert [len(story.world.attempts(job)) for job in story.jobs] == [1, 2, 2, 1]


def assert_all_rules_hold(story: Story) -> None:
    """I1, I2, I3, I4 and I6 in the database; I5 against the cluster, which started each attempt's worker once."""
    world = story.world
    with world.db.read() as session:
        assert check(session, drained=True, acknowledged=story.jobs, limits=Limits(cpus=2)) == []
        recorded = list(session.scalars(select(Attempt.id).order_by(Attempt.id)))
        assert session.scalars(select(Job.state).distinct()).all() == ["succeeded"]
    assert sorted(launch.attempt_id for launch in world.backend.started) == recorded
    assert [a.state for job in story.jobs for a in world.attempts(job)].count("succeeded") == len(story.jobs)
    assert world.now - world.attempts(story.silent)[0].created_at > LEASE
