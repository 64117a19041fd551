"""What the Tune searcher hands out, makes and learns; a service that remembers stands behind it, no cluster."""

from __future__ import annotations

from typing import Any

import pytest

from bcd.sweep import parse_sweep
from bcd.sweep.wire import NewTrial, Report, TrialState
from tests.helpers.api import tiny_sweep

tune_search = pytest.importorskip("ray.tune.search")

from workers.tune.channel import Refused, Spent, Stale  # noqa: E402
from workers.tune.searcher import OBJECTIVE, JobSearcher  # noqa: E402


class Service:
    """Remembers trials as the service does."""

    def __init__(self, most: int = 100):
        self.trials: dict[int, TrialState] = {}
        self.stopped: dict[int, str] = {}
        self.most = most
        self.raises: Exception | None = None

    def add(self, wanted: NewTrial) -> TrialState:
        if self.raises is not None:
            raise self.raises
        if wanted.number in self.trials:
            return self.trials[wanted.number]
        if len(self.trials) >= self.most:
            raise Spent("all have begun")
        assert wanted.number == len(self.trials) + 1
        made = TrialState(
            number=wanted.number, job_id=f"job_{wanted.number}", params=wanted.params, state="queued", total_steps=4,
            reports=[],
        )  # fmt: skip
        self.trials[wanted.number] = made
        return made

    def stop(self, number: int, why: str) -> None:
        if self.raises is not None:
            raise self.raises
        self.stopped[number] = why

    def end(self, number: int, value: float | None) -> None:
        state = "failed" if value is None else "succeeded"
        values = None if value is None else [value]
        self.trials[number] = self.trials[number].model_copy(update={"state": state, "values": values})

    @property
    def known(self) -> list[TrialState]:
        return list(self.trials.values())


def _sweep(**changes: Any):
    return parse_sweep(tiny_sweep(**changes))


GRID = {
    "search": {"type": "grid"},
    "space": {
        "student.width": {"type": "choice", "values": [4, 8]},
        "schedule.ema": {"type": "choice", "values": [0.5, 0.9]},
    },
}


def test_a_grid_is_handed_out_once_and_goes_on_after_a_restart():
    service = Service()
    first = JobSearcher(_sweep(**GRID), service, [])
    for i in range(2):
        assert first.suggest(f"a{i}") == {"number": i + 1}
    service.end(1, 30.0)
    second = JobSearcher(_sweep(**GRID), service, service.known)
    handed = []
    while (got := second.suggest(f"b{len(handed)}")) != second.FINISHED:
        handed.append(got["number"])
    assert handed == [2, 3, 4]  # trial 1 has ended and nobody has to follow it
    assert len({str(trial.params) for trial in service.known}) == 4


def test_a_scheduler_sees_a_grid_in_no_order_and_every_driver_in_the_same():
    values = list(range(4, 44, 4))
    space = {"student.width": {"type": "choice", "values": values}}

    def widths(scheduler: str, restart: int) -> list[int]:
        service = Service()
        given = {"type": scheduler, **({"grace": 1} if scheduler != "none" else {})}
        sweep = _sweep(search={"type": "grid"}, space=space, scheduler=given)
        searcher = JobSearcher(sweep, service, [])
        for i in range(len(values)):
            if i == restart:
                for number in service.trials:
                    service.end(number, 1.0)
                searcher = JobSearcher(sweep, service, service.known)
                for j in range(i if scheduler != "none" else 0):
                    assert searcher.suggest(f"again {j}") == {"number": j + 1}
            assert searcher.suggest(str(i)) == {"number": i + 1}
        return [trial.params["student.width"] for trial in service.known]

    assert widths("none", 4) == values
    mixed = widths("asha", 4)
    assert sorted(mixed) == values != mixed
    assert widths("asha", 99) == mixed


def test_a_scheduler_is_told_again_of_every_trial_there_was():
    service = Service()
    sweep = _sweep(scheduler={"type": "asha", "grace": 1})
    first = JobSearcher(sweep, service, [])
    first.suggest("a"), first.suggest("b")
    service.end(1, 30.0)
    second = JobSearcher(sweep, service, service.known)
    assert [second.suggest(str(i))["number"] for i in range(3)] == [1, 2, 3]
    assert len(service.trials) == 3


def test_a_budget_that_is_spent_finishes_the_search():
    searcher = JobSearcher(_sweep(), Service(most=1), [])
    assert searcher.suggest("a") == {"number": 1}
    assert searcher.suggest("b") == searcher.FINISHED
    assert searcher.failure is None


def test_a_trial_that_tune_ends_before_its_job_is_stopped_with_the_reason():
    service = Service()
    searcher = JobSearcher(_sweep(scheduler={"type": "asha", "grace": 1}), service, [])
    for i in "abc":
        searcher.suggest(i)
    searcher.on_trial_complete("a", {OBJECTIVE: 1.5, "step": 3, "ended": False})
    searcher.on_trial_complete("b", {OBJECTIVE: 2.5, "step": 4, "ended": True, "values": [2.5]})
    searcher.on_trial_complete("c", None, error=True)
    assert service.stopped == {1: "stopped by ASHA at step 3: AP 1.50"}
    states = [trial.state.name for trial in searcher._study.trials]
    assert states == ["COMPLETE", "COMPLETE", "FAIL"]
    assert searcher._study.best_value == 2.5


@pytest.mark.parametrize("error", [Stale("another driver"), Refused("422: no job spec"), RuntimeError("x")])
def test_what_goes_wrong_ends_the_search_and_is_kept(error):
    service = Service()
    searcher = JobSearcher(_sweep(), service, [])
    searcher.suggest("a")
    service.raises = error
    assert searcher.suggest("b") == searcher.FINISHED
    assert isinstance(searcher.failure, RuntimeError if isinstance(error, Refused) else type(error))
    searcher.on_trial_complete("a", {OBJECTIVE: 1.0, "ended": False})  # nobody is told any more
    assert service.stopped == {}


def test_past_results_are_in_the_study_of_the_next_driver():
    service = Service()
    first = JobSearcher(_sweep(), service, [])
    for i in range(3):
        first.suggest(str(i))
    service.end(1, 30.0)
    service.end(2, None)
    second = JobSearcher(_sweep(), service, service.known)
    assert second.suggest("x") == {"number": 3}
    assert [trial.state.name for trial in second._study.trials] == ["COMPLETE", "FAIL", "RUNNING"]
    second.on_trial_complete("x", {OBJECTIVE: 40.0, "ended": True, "values": [40.0]})
    assert second._study.best_value == 40.0


def test_a_follower_reports_what_its_job_reports_and_its_end(monkeypatch):
    from workers.tune.follower import JobFollower, TrialFailed

    follower = JobFollower.__new__(JobFollower)
    follower._spec = _sweep(objectives=[{"metric": "AP", "at": "best"}])
    follower.reset_config({"number": 7})
    steps = {1: 10.0, 2: 8.0, 4: 9.0}

    class Jobs:
        state, values = "running", None

        def look(self, number: int, *, after: int) -> TrialState:
            assert number == 7
            reports = [Report(step=step, value=value) for step, value in steps.items() if step > after]
            return TrialState(
                number=7, job_id="j", params={}, state=self.state, total_steps=4, reports=reports, values=self.values,
                cause="it broke",
            )  # fmt: skip

    follower._channel = jobs = Jobs()
    jobs.state, jobs.values = "succeeded", [9.5]
    assert follower.step() == {OBJECTIVE: 10.0, "step": 1, "ended": False}
    assert follower.step() == {OBJECTIVE: 10.0, "step": 2, "ended": False}  # the best so far
    end = follower.step()
    assert end == {OBJECTIVE: 9.5, "values": [9.5], "step": 4, "ended": True, "done": True}
    follower.reset_config({"number": 7})
    jobs.state, jobs.values = "cancelled", None
    assert [follower.step()["ended"] for _ in range(4)] == [False, False, False, True]
    follower.reset_config({"number": 7})
    jobs.state = "failed"
    for _ in range(3):
        follower.step()
    with pytest.raises(TrialFailed, match="it broke"):
        follower.step()
