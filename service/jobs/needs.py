"""What must have succeeded before a job may start: its teacher, where that is a job, and the jobs named by `after`.

There can be no cycle: a job names only jobs that were there before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from bcd.spec import JobSpec, SpecError, check_pair
from service.access.principal import Principal
from service.jobs.options import Options
from service.models import Dependency, Job, JobState

Fault = tuple[str, str]
_NEVER = (JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING)


@dataclass(frozen=True)
class Needs:
    """The jobs that come first, and what speaks against them: (pointer, message) each."""

    jobs: Sequence[Job]
    teacher: Job | None
    faults: list[Fault]

    @property
    def met(self) -> bool:
        return all(job.state == JobState.SUCCEEDED for job in self.jobs)


def find(session: Session, me: Principal, spec: JobSpec, options: Options, *, lock: bool) -> Needs:
    """Look up what a spec and its options name. With `lock` none of them can end before the caller commits."""
    teacher_id = spec.teacher.job if spec.teacher is not None else None
    wanted = {teacher_id: "/teacher/job"} if teacher_id is not None else {}
    wanted = {**dict.fromkeys(options.after, "?after"), **wanted}
    if not wanted:
        return Needs([], None, [])
    query = select(Job).where(Job.id.in_(list(wanted)), me.visible(Job.project_id)).order_by(Job.id)
    jobs = session.scalars(query.with_for_update(read=True) if lock else query).all()
    known = {job.id: job for job in jobs}
    faults = [fault for job_id, place in wanted.items() for fault in _against(job_id, known.get(job_id), place)]
    teacher = known.get(teacher_id) if teacher_id is not None else None
    if teacher is not None:
        try:
            check_pair(spec, teacher.spec["student"])
        except SpecError as error:
            faults += error.errors
    return Needs(jobs, teacher, faults)


def _against(job_id: str, job: Job | None, place: str) -> list[Fault]:
    if job is None:
        return [(place, f"there is no job {job_id!r}; give the id of a job")]
    if job.state not in _NEVER:
        return []
    why = f" ({job.cause})" if job.cause else ""
    so = "will not succeed; name another job, or none" if place == "?after" else "gives no teacher; choose another job"
    return [(place, f"job {job.id} is {job.state}{why} and {so}")]


def lock(session: Session, job_id: str) -> None:
    """Lock what a stored job needs, before the job itself: jobs that end lock in this order too."""
    needs = select(Dependency.needs_id).where(Dependency.job_id == job_id)
    session.scalars(select(Job.id).where(Job.id.in_(needs)).order_by(Job.id).with_for_update(read=True)).all()


def of(session: Session, job_ids: Sequence[str]) -> dict[str, list[str]]:
    """Ids of the jobs that each of these needs."""
    out: dict[str, list[str]] = {job_id: [] for job_id in job_ids}
    query = select(Dependency.job_id, Dependency.needs_id).where(Dependency.job_id.in_(job_ids))
    for job_id, needs_id in session.execute(query.order_by(Dependency.needs_id)):
        out[job_id].append(needs_id)
    return out
