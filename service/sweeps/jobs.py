"""What a sweep does to its jobs. One file, because a job's moves by a sweep are those of its user."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.jobs.states import move, standing
from service.models import TERMINAL, Job, JobState, Trial

S = JobState


def end_job(session: Session, job_id: str, *, by: str, why: str) -> bool:
    """Cancel a job, at once or through its worker. False: it has ended, or is about to."""
    job = _locked(session, job_id)
    if job.state in (S.WAITING, S.QUEUED, S.PAUSED):
        move(session, job, S.CANCELLED, actor="user", by=by, cause=why)
    elif job.state in (S.STARTING, S.RUNNING, S.PAUSING):
        move(session, job, S.CANCELLING, actor="user", by=by, cause=why)
    else:
        return False
    return True


def pause_job(session: Session, job_id: str, *, by: str) -> None:
    job = _locked(session, job_id)
    if job.state in (S.WAITING, S.QUEUED):
        move(session, job, S.PAUSED, actor="user", by=by, cause="its sweep is paused")
    elif job.state in (S.STARTING, S.RUNNING):
        move(session, job, S.PAUSING, actor="user", by=by, cause="its sweep is paused")


def resume_job(session: Session, job_id: str, *, by: str) -> None:
    """Nothing where the job is not paused; the caller has made sure that none is still pausing."""
    job = _locked(session, job_id)
    if job.state == S.PAUSED:
        to, cause = standing(session, job)
        move(session, job, to, actor="user", by=by, cause=cause)


def for_each(session: Session, sweep_id: str, act: Callable[[str], object]) -> None:
    """Do it to all jobs of a sweep that have not ended, in the order in which everybody locks jobs."""
    open_ones = [state.value for state in S if state not in TERMINAL]
    query = select(Job.id).join(Trial, Trial.job_id == Job.id).where(Trial.sweep_id == sweep_id)
    for job_id in session.scalars(query.where(Job.state.in_(open_ones)).order_by(Job.id)).all():
        act(job_id)


def _locked(session: Session, job_id: str) -> Job:
    return session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
