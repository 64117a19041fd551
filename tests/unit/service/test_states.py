"""The table of job states, and what `move` does besides."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from service.jobs.states import MOVES, Actor, IllegalMove, move
from service.models import TERMINAL, Event, Job, JobState
from tests.helpers.api import distilled_spec, submit


def test_the_table_names_every_state_and_terminal_ones_lead_nowhere() -> None:
    assert set(MOVES) == set(JobState)
    assert {state for state, following in MOVES.items() if not following} == TERMINAL


def test_every_state_can_be_reached_from_queued_or_waiting_and_can_end() -> None:
    def reachable(state: JobState) -> set[JobState]:
        seen, todo = {state}, [state]
        while todo:
            new = set(MOVES[todo.pop()]) - seen
            seen |= new
            todo += new
        return seen

    assert reachable(JobState.WAITING) == set(JobState)
    assert all(reachable(state) & TERMINAL for state in JobState)


@pytest.mark.parametrize("asked", [JobState.CANCELLING, JobState.PAUSING])
def test_a_job_that_was_asked_to_stop_is_never_queued_again_by_itself(asked: JobState) -> None:
    assert JobState.QUEUED not in MOVES[asked]


@pytest.mark.parametrize("actor", ["user", "dispatcher", "worker"])
@pytest.mark.parametrize("now", list(JobState))
def test_move_follows_the_table_and_writes_one_event(client: TestClient, now: JobState, actor: Actor) -> None:
    job_id = submit(client)["id"]
    for to in JobState:
        with client.app.state.db.write() as session:
            job = session.get(Job, job_id)
            job.state, job.ended_at = now.value, None
            before = len(session.scalars(select(Event)).all())
            allowed = actor in MOVES[now].get(to, ())
            if allowed:
                move(session, job, to, actor=actor, cause="why")
            else:
                with pytest.raises(IllegalMove, match=f"is {now} and cannot become {to} by the {actor}"):
                    move(session, job, to, actor=actor, cause="why")
            events = session.scalars(select(Event).order_by(Event.id)).all()[before:]
            if allowed:
                assert [(e.type, e.actor, e.data) for e in events] == [
                    ("job.state", actor, {"from": now, "to": to, "cause": "why"})
                ]
                assert (job.state, job.ended_at is not None) == (to, to in TERMINAL)
            else:
                assert (job.state, events) == (now, [])


@pytest.mark.parametrize(("end", "then"), [("succeeded", "queued"), ("failed", "failed"), ("cancelled", "failed")])
def test_jobs_that_wait_for_a_teacher_follow_its_end(client: TestClient, end: str, then: str) -> None:
    teacher = submit(client)["id"]
    student = submit(client, distilled_spec(teacher))["id"]
    grandchild = submit(client, distilled_spec(student))["id"]
    with client.app.state.db.write() as session:
        job = session.get(Job, teacher)
        job.state = "cancelling" if end == "cancelled" else "running"
        move(session, job, JobState(end), actor="worker", cause="disk full")
    student_now, grandchild_now = (client.get(f"/api/v1/jobs/{id}").json() for id in (student, grandchild))
    assert student_now["state"] == then
    if then == "failed":
        assert teacher in student_now["cause"]
        assert "disk full" in student_now["cause"]
        assert grandchild_now["state"] == "failed"
        assert student in grandchild_now["cause"]
    else:
        assert grandchild_now["state"] == "waiting"
