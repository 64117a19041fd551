"""Making the jobs of a sweep. A job's id follows from sweep, number and seed, so none can be made twice."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from bcd.spec import parse_spec
from bcd.sweep import SweepSpec, trial_values
from bcd.sweep.space import Word
from service.access.principal import Principal
from service.jobs.options import Options
from service.jobs.submit import insert
from service.models import Job, Role, Scope, Sweep, Trial

DEFAULT = 0  # the number of the base spec as it is


def add(session: Session, sweep: Sweep, spec: SweepSpec, number: int, params: Mapping[str, Word], seed: int) -> Job:
    """The job of a trial, which may be there already. The caller has locked the sweep and commits.

    Raises `SpecError` for parameters that make no job spec, `Problem` where the job is refused.
    """
    job_id = job_id_of(sweep.id, number, seed)
    job = session.get(Job, job_id)
    if job is not None:
        return job
    base = parse_spec(spec.job).canonical()
    values = trial_values(base, spec.space, params)
    name = f"{sweep.name} default" if number == DEFAULT else f"{sweep.name} #{number}"
    values |= {"seed": seed, "name": name}
    job_spec = parse_spec(values)
    options = Options(project=sweep.project_id, priority=sweep.priority, group=sweep.id)
    teacher = session.get(Job, job_spec.teacher.job) if job_spec.teacher and job_spec.teacher.job else None
    job = insert(session, _owner(sweep, teacher), job_spec, options, job_id=job_id)
    session.add(Trial(job_id=job_id, sweep_id=sweep.id, number=number, seed=seed, params=dict(params)))
    session.flush()
    return job


def job_id_of(sweep_id: str, number: int, seed: int) -> str:
    return f"job_{sweep_id.removeprefix('sweep_')}_{number}_{seed}"


def _owner(sweep: Sweep, teacher: Job | None) -> Principal:
    """Who submitted the sweep, for what they were allowed then: its project, and to read from the teacher's."""
    roles = {teacher.project_id: Role.VIEWER} if teacher is not None else {}
    name = sweep.created_by or "-"
    return Principal(
        user_id="", name=name, token_id="", scope=Scope.WRITE, roles={**roles, sweep.project_id: Role.EDITOR}
    )
