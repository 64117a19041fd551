"""The table of job states, and what `move` does besides."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from service.jobs.states import ALLOWED, IllegalMove, move
from service.models import TERMINAL, Event, Job, JobState
from tests.helpers.api import distilled_spec, submit


def test_the_table_names_every_state_and_terminal_ones_lead_nowhere() -> None:
    assert set(ALLOWED) == set(JobState)
    assert {state for state, following in ALLOWED.items() if not following} == TERMINAL


def test_every_state_can_be_reached_from_queued_or_waiting_and_can_end() -> None:
    def reachable(state: JobState) -> set[JobState]:
        seen, todo = {state}, [state]
        while todo:
            new = ALLOWED[todo.pop()] - seen
            seen |= new
            todo += new
        return seen

    assert reachable(JobState.WAITING) == set(JobState)
    assert all(reachable(state) & TERMINAL for state in JobState)


def test_a_cancelling_job_is_never_queued_again() -> None:
    assert JobState.QUEUED not in ALLOWED[JobState.CANCELLING]


@pytest.mark.parametrize("now", list(JobState))
def test_move_follows_the_table_and_writes_one_event(client: TestClient, now: JobState) -> None:
    job_id = submit(client)["id"]
    for to in JobState:
        with client.app.state.db.write() as session:
            job = session.get(Job, job_id)
            job.state, job.ended_at = now.value, None
            before = len(session.scalars(select(Event)).all())
            if to in ALLOWED[now]:
                move(session, job, to, actor="user", cause="why")
            else:
                with pytest.raises(IllegalMove, match=f"is {now} and cannot become {to}"):
                    move(session, job, to, actor="user", cause="why")
            events = session.scalars(select(Event).order_by(Event.id)).all()[before:]
            if to in ALLOWED[now]:
                assert [(e.type, e.actor, e.data) for e in events] == [
                    ("job.state", "user", {"from": now, "to": to, "cause": "why"})
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
        job.state = "running"
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
