"""What a job would cost and when it would start, from what is known now. Guesses, each with its reason."""

from __future__ import annotations

from statistics import median
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bcd.spec import JobSpec
from service.access.principal import Principal
from service.jobs.describe import detector_name
from service.jobs.options import Options
from service.models import Job, JobState, Node, Project

LOOKED_AT = 200  # finished jobs of this detector, the newest


class Cost(BaseModel):
    """How long the run would take, by finished jobs that are like it."""

    seconds: float | None
    basis: str = Field(description="What the figure rests on, or why there is none.")


class Queue(BaseModel):
    """Where the job would stand."""

    position: int = Field(description="1: next, among the queued jobs of its priority and above.")
    fits: bool | None = Field(description="Whether some machine has what it asks for, once free; null: not known.")
    reason: str | None = Field(description="Why `fits` is not true.")


def cost(session: Session, me: Principal, spec: JobSpec, steps: int | None) -> Cost:
    """From the median time of a step in finished runs of the same detector, image size, batch and resources; of the
    same methods where there are such. Runs that were interrupted do not count.
    """
    if steps is None:
        return Cost(seconds=None, basis="the number of steps is known once the data set is read")
    query = (
        select(Job.spec, Job.started_at, Job.ended_at, Job.step)
        .where(me.visible(Job.project_id), Job.state == JobState.SUCCEEDED.value)
        .where(Job.detector == detector_name(spec.student), Job.epoch == 1, Job.origin.is_distinct_from("retry"))
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(LOOKED_AT)
    )
    like: dict[bool, list[float]] = {True: [], False: []}
    mine, methods = _cost_of_a_step(spec.canonical()), {method.type for method in spec.methods}
    for other, started, ended, done in session.execute(query):
        if started is not None and ended is not None and done > 0 and _cost_of_a_step(other) == mine:
            same = {method["type"] for method in other["methods"]} == methods
            like[same].append((ended - started) / done)
    which = like[True] or like[False]
    if not which:
        return Cost(
            seconds=None, basis="no finished job has the same detector, image size, batch size and resources yet"
        )
    step = median(which)
    differ = "" if like[True] else ", which have other methods"
    basis = f"the median of {step:.4g} s for a step of {len(which)} finished jobs like it{differ}"
    return Cost(seconds=step * steps, basis=basis)


def _cost_of_a_step(spec: dict[str, Any]) -> tuple[Any, ...]:
    return spec["data"].get("image_size"), spec["schedule"]["batch_size"], spec.get("resources")


def queue(session: Session, spec: JobSpec, options: Options) -> Queue:
    """Where the job would stand if it were submitted now."""
    ahead = session.scalar(
        select(func.count()).where(Job.state == JobState.QUEUED.value, Job.priority >= options.priority)
    )
    fits, reason = _fits(session, spec, options)
    return Queue(position=(ahead or 0) + 1, fits=fits, reason=reason)


def _fits(session: Session, spec: JobSpec, options: Options) -> tuple[bool | None, str | None]:
    asked = spec.resources
    wanted = {"CPUs": float(max(asked.cpus, asked.world)), "GPUs": float(asked.gpus)}
    memory = getattr(asked, "memory", None)
    if memory is not None:
        wanted["GiB of memory"] = memory
    project = session.get(Project, options.project)
    if project is not None and project.max_gpus is not None and wanted["GPUs"] > project.max_gpus:
        return False, f"it asks for {wanted['GPUs']:g} GPUs, and project {project.id} may use {project.max_gpus:g}"
    nodes = session.scalars(select(Node).where(Node.alive)).all()
    if not nodes:
        return None, "no machine of the cluster is known yet"
    have = [{"CPUs": node.cpus, "GPUs": node.gpus, "GiB of memory": node.memory} for node in nodes]
    if asked.world > 1:  # its processes may be spread
        have = [{kind: sum(one[kind] for one in have) for kind in have[0]}]
    if any(all(count <= one[kind] for kind, count in wanted.items()) for one in have):
        return True, None
    lacking = [
        f"{count:g} {kind} (at most {max(one[kind] for one in have):g})"
        for kind, count in wanted.items()
        if all(count > one[kind] for one in have)
    ]
    where = "the cluster has not" if asked.world > 1 else "no machine has"
    return False, f"{where} {', '.join(lacking) or 'all of what it asks for at once'}"
