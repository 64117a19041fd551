"""Several processes and their supervisor, in threads of one process: what they say, and what comes out in the end."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest

from bcd.engine.errors import PROCESS_DIED, Cancelled, JobError
from bcd.engine.faults import process_died
from workers import team as module
from workers.attempt import run_attempt
from workers.team import Gone, Lost, Member, Team

from .test_attempt import SPEC, args, kinds, ticket  # noqa: F401 - `args` is a fixture

TOGETHER = {**SPEC, "schedule": {"steps": 4, "batch_size": 4}, "resources": {"cpus": 2, "processes": 2}}


class Left(Exception):
    """Stands in for the end of a process."""


def leave(code: int) -> None:
    if threading.current_thread().name == "supervisor":
        threading.Event().wait()  # pytest minds threads that end with an exception
    raise Left(code)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASK_EVERY", 0.01)
    monkeypatch.setattr(module, "GRACE", 0.0)
    monkeypatch.setattr(module, "END_GRACE", 0.2)


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def records() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def team(records, stop) -> Team:
    return Team(lambda kind, **fields: records.append((kind, fields)), stop.is_set, stop_grace=0.3)


def member(team: Team, rank: int = 0) -> Member:
    return Member(rank, lambda name, *given: getattr(team, name)(*given), leave)


def fails(rank: int, error: BaseException) -> Callable[[Team], None]:
    return lambda team: member(team, rank).fail(error)


def run(team: Team, *scripts: Callable[[Team], None], lost: Lost | None = None) -> None:
    """Let Ray Train's part be: run the processes' scripts one after the other, then say who was lost."""

    def fit() -> Lost:
        for script in scripts:
            script(team)
        return lost or {}

    team.run(fit)


def test_what_the_first_process_reports_is_written_in_its_order(team, records):
    def train(team: Team) -> None:
        first = member(team)
        for step in range(1, 51):
            first.append("metric", step=step, values={"loss": 1.0})

    run(team, train)
    assert [fields["step"] for _, fields in records] == list(range(1, 51))


def test_a_record_that_cannot_be_written_fails_in_the_process_that_sent_it(stop):
    def full(kind: str, **fields: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        run(Team(full, stop.is_set), lambda team: member(team).append("log", text="x"))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("error", [JobError("bad-data", "image 7 does not open"), Cancelled("stopped at step 3")])
def test_the_fault_of_the_job_counts_and_not_what_it_did_to_the_others(team, error):
    consequence = RuntimeError("connection closed by peer")
    lost = {1: process_died(1, 3, "was ended"), 2: process_died(2, 3, "was ended")}
    with pytest.raises(type(error), match=str(error)):
        run(team, fails(0, consequence), fails(2, error), lost=lost)


def test_a_process_that_ended_without_a_word_counts_and_not_what_it_did_to_the_others(team):
    lost = {0: process_died(0, 2, "failed, says Ray"), 1: process_died(1, 2, "was killed")}
    with pytest.raises(JobError, match="process 2 of 2 was killed") as caught:
        run(team, fails(0, RuntimeError("connection closed by peer")), lost=lost)
    assert caught.value.code == PROCESS_DIED


def test_a_fault_of_the_code_arrives_with_the_traceback_of_its_process(team):
    def fail_deep_inside(team: Team) -> None:
        try:
            raise ZeroDivisionError("division by zero")
        except ZeroDivisionError as error:
            member(team).fail(error)

    with pytest.raises(ZeroDivisionError) as caught:
        run(team, fail_deep_inside)
    assert "in fail_deep_inside" in caught.value.__notes__[0]


def test_memory_that_ran_out_and_errors_that_cannot_travel_keep_their_meaning(team):
    class Local(Exception):
        pass

    with pytest.raises(MemoryError):
        run(team, fails(1, MemoryError()))
    other = Team(lambda kind, **fields: None, lambda: False)
    with pytest.raises(RuntimeError, match="Local: odd"):
        run(other, fails(0, Local("odd")))


def test_what_ray_train_says_counts_where_no_process_said_anything(team):
    with pytest.raises(JobError, match="no place"):
        team.run(lambda: (_ for _ in ()).throw(JobError(PROCESS_DIED, "no place for 2 processes")))


def test_a_request_to_stop_reaches_every_process(team, stop):
    def train(team: Team) -> None:
        both = [member(team, rank) for rank in (0, 1)]
        both[0].append("log", text="train")
        assert not any(one.should_stop() for one in both)
        stop.set()
        while not all(one.should_stop() for one in both):
            pass
        for one in both:
            one.fail(Cancelled("stopped at step 7"))

    with pytest.raises(Cancelled, match="step 7"):
        run(team, train)


def test_processes_that_do_not_stop_in_time_are_told_to_end_and_not_waited_for(team, stop):
    told = threading.Event()

    def hang() -> Lost:
        first = member(team)
        first.append("log", text="train")
        stop.set()
        while team.ask() != "end":
            pass
        with pytest.raises(Left):
            first.append("log", text="too late")
        told.set()
        threading.Event().wait()  # for ever
        return {}

    with pytest.raises(Cancelled, match="in time"):
        team.run(hang)
    assert told.wait(20)


def test_an_attempt_that_is_stopped_before_its_processes_are_up_ends_at_once(team, stop):
    stop.set()
    with pytest.raises(Cancelled, match="before it began"):
        team.run(lambda: threading.Event().wait() and {})  # for ever


def test_a_process_whose_supervisor_is_gone_ends():
    def gone(name: str, *given: Any) -> Any:
        raise Gone

    with pytest.raises(Left):
        Member(1, gone, leave)


def test_a_process_ends_when_its_supervisor_goes_while_it_trains():
    answers = iter(["go on", "go on"])
    left = threading.Event()

    def call(name: str, *given: Any) -> Any:
        for answer in answers:
            return answer
        raise Gone

    def end(code: int) -> None:
        left.set()
        leave(code)

    Member(1, call, end)
    assert left.wait(20)


def test_an_attempt_of_several_processes_is_trained_together_and_any_other_alone(args, service):  # noqa: F811
    service._ticket = ticket(TOGETHER)

    def together(work, append, should_stop):
        assert work.spec.resources.world == 2
        run(Team(append, should_stop), lambda team: member(team).append("metric", step=1, values={"loss": 1.0}))

    alone: dict[str, Any] = {"run": lambda *_a, **_k: pytest.fail("must not train alone"), "channel": service}
    assert run_attempt(args, together=together, patience=20, **alone) == "succeeded"
    assert kinds(service) == ["running", "metric", "succeeded"]


def test_a_killed_process_of_an_attempt_may_be_tried_again(args, service):  # noqa: F811
    service._ticket = ticket(TOGETHER)

    def together(work, append, should_stop):
        run(Team(append, should_stop), lost={1: process_died(1, 2, "was killed")})

    assert run_attempt(args, together=together, channel=service, patience=20) == "failed"
    last = service.records[-1]
    assert (last.cause, last.retryable) == ("process 2 of 2 was killed", True)
