"""A dry run of a submission: what it would do, cost and wait for, and all that is wrong with it. Stores nothing."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from bcd.spec import JobSpec, SpecError, method_needs, parse_spec, path_faults
from bcd.spec.data import DigitsData
from service.access.principal import Principal
from service.errors import Problem
from service.jobs import estimate, needs
from service.jobs.describe import detector_name
from service.jobs.estimate import Cost, Queue
from service.jobs.options import Options
from service.models import Job, Project, Role


class FaultOut(BaseModel):
    pointer: str = Field(description="JSON pointer into the spec, or the name of a query parameter (`?after`).")
    detail: str


class MethodPlan(BaseModel):
    type: str
    needs: list[str] = Field(description="What it reads of teacher and student.")


class TeacherPlan(BaseModel):
    """Where the teacher comes from. Of a file the API knows only the path: workers may see another file system."""

    job_id: str | None
    path: str | None
    state: str | None = Field(description="State of the teacher's job.")
    detector: str | None


class Plan(BaseModel):
    """What would run."""

    steps: int | None = Field(description="null: known once the data set is read.")
    epochs: float | None
    detector: str
    methods: list[MethodPlan]
    teacher: TeacherPlan | None
    pair: str | None = Field(description="Whether teacher, student and methods fit: ok, refused, or null: not known.")
    resources: dict[str, Any]
    state: str = Field(description="queued, or waiting: for the jobs in `needs`.")
    needs: list[str]
    digest: str = Field(description="Hash of the spec with every default filled in.")


class Verdict(BaseModel):
    """The answer to a dry run. Where `ok` is false the submission would be refused with these errors."""

    ok: bool
    errors: list[FaultOut]
    warnings: list[str]
    plan: Plan | None = Field(description="null where the spec cannot be read.")
    cost: Cost | None
    queue: Queue | None


def validate(session: Session, me: Principal, value: Any, options: Options) -> Verdict:
    """What `submit` would say to the same spec and options. Raises `Problem` 404 and 403 for the project alone."""
    me.require(options.project, Role.VIEWER)
    if session.get(Project, options.project) is None:
        raise Problem(404, f"there is no project {options.project!r}")
    try:
        spec = parse_spec(value)
    except SpecError as error:
        return Verdict(ok=False, errors=_faults(error.errors), warnings=[], plan=None, cost=None, queue=None)
    needed = needs.find(session, me, spec, options, lock=False)
    faults = [*path_faults(spec, me.data_roots), *needed.faults]
    plan = _plan(spec, needed)
    return Verdict(
        ok=not faults,
        errors=_faults(faults),
        warnings=_warnings(spec, needed, may_submit=me.may(options.project, Role.EDITOR)),
        plan=plan,
        cost=estimate.cost(session, me, spec, plan.steps),
        queue=estimate.queue(session, spec, options),
    )


def _faults(faults: list[needs.Fault]) -> list[FaultOut]:
    return [FaultOut(pointer=pointer, detail=detail) for pointer, detail in faults[:100]]


def _plan(spec: JobSpec, needed: needs.Needs) -> Plan:
    steps = spec.planned_steps()
    epochs = spec.schedule.epochs
    if epochs is None and steps is not None and isinstance(spec.data, DigitsData):
        images = min(spec.data.train_images, spec.data.max_train_images or spec.data.train_images)
        epochs = steps / spec.schedule.epoch_steps(images)
    return Plan(
        steps=steps,
        epochs=epochs,
        detector=detector_name(spec.student),
        methods=[MethodPlan(type=method.type, needs=sorted(method_needs(method))) for method in spec.methods],
        teacher=_teacher(spec, needed.teacher),
        pair=_pair(needed),
        resources=spec.canonical()["resources"],
        state="queued" if needed.met else "waiting",
        needs=[job.id for job in needed.jobs],
        digest=spec.digest(),
    )


def _pair(needed: needs.Needs) -> str | None:
    if needed.teacher is None:
        return None
    return "refused" if any(pointer.startswith("/methods") for pointer, _ in needed.faults) else "ok"


def _teacher(spec: JobSpec, job: Job | None) -> TeacherPlan | None:
    if spec.teacher is None:
        return None
    return TeacherPlan(
        job_id=spec.teacher.job,
        path=spec.teacher.path,
        state=job.state if job is not None else None,
        detector=job.detector if job is not None else None,
    )


def _warnings(spec: JobSpec, needed: needs.Needs, *, may_submit: bool) -> list[str]:
    out = []
    if not may_submit:
        out.append("you may look at this project, not submit to it; ask for the role editor")
    if spec.teacher is not None and spec.teacher.path is not None:
        out.append("the teacher is a file: whether it is there and fits is seen when the run starts")
    if not isinstance(spec.data, DigitsData):
        out.append("the data set is a folder: whether it is there and sound is seen when the run starts")
    if spec.teacher is not None and spec.teacher.preflight == "off":
        out.append("teacher.preflight is off: a teacher that finds nothing would go unnoticed")
    waits = [job.id for job in needed.jobs if job.state == "paused"]
    if waits:
        out.append(f"it waits for paused jobs, which nobody resumes by itself: {', '.join(waits)}")
    return out
