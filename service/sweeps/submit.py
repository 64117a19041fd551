"""Accepting sweeps. Everything that can be known to be wrong is found here, before the first trial."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bcd.spec import JobSpec, SpecError, parse_spec, path_faults
from bcd.sweep import GridSearch, SweepSpec, check, grid_size, parse_sweep
from service.access import audit
from service.access.principal import Principal
from service.db import Database
from service.errors import INVALID_SPEC, Problem
from service.jobs import needs
from service.jobs.options import Options as JobOptions
from service.jobs.options import Priority
from service.jobs.validate import FaultOut
from service.models import DEFAULT_PROJECT, Project, Role, Sweep, SweepState, new_id
from service.sweeps.events import move

Fault = tuple[str, str]


class Options(BaseModel):
    """What a submission says beside the sweep spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    project: Annotated[str, Field(max_length=40)] = Field(DEFAULT_PROJECT, description="The project of its jobs.")
    priority: Priority = 0


def submit(db: Database, me: Principal, value: Any, options: Options, *, key: str | None) -> tuple[str, bool]:
    """Accept a sweep given as plain values. Returns its id and whether it is new.

    Raises `Problem`: 422 with a pointer for each fault, 409 for a key that belongs to another request, 403 and 404.
    """
    me.require(options.project, Role.EDITOR)
    spec = parsed(value)
    same = _request_hash(spec, options)
    try:
        with db.write() as session:
            earlier = _earlier(session, options.project, key, same)
            if earlier is not None:
                return earlier, False
            if session.get(Project, options.project) is None:
                raise Problem(404, f"there is no project {options.project!r}")
            refuse(faults(session, me, spec, options))
            sweep = Sweep(
                id=new_id("sweep"), project_id=options.project, name=spec.name, spec=spec.canonical(),
                state=SweepState.SEARCHING.value, priority=options.priority, idempotency_key=key, request_hash=same,
                created_by=me.name, created_at=time.time(), searched=0.0, epoch=0, lease_until=0.0, fruitless=0,
            )  # fmt: skip
            session.add(sweep)
            session.flush()
            move(session, sweep, SweepState.SEARCHING, actor="user", by=me.name)
            audit.record(session, me, "sweep.submit", sweep.id, project_id=sweep.project_id)
            return sweep.id, True
    except IntegrityError:
        # PostgreSQL: another submission with this key committed between our look and our insert
        with db.read() as session:
            earlier = _earlier(session, options.project, key, same)
        if earlier is None:
            raise
        return earlier, False


def parsed(value: Any) -> SweepSpec:
    """The form of the spec. Raises `Problem` 422 with a pointer for each fault."""
    try:
        return parse_sweep(value)
    except SpecError as error:
        raise refusal(error.errors) from None


def faults(session: Session, me: Principal, spec: SweepSpec, options: Options) -> list[Fault]:
    """All that is wrong with a sweep whose form is right: fields, values, combinations, teacher, paths."""
    return check(spec, _of_the_job(session, me, JobOptions(project=options.project)))


def _of_the_job(session: Session, me: Principal, options: JobOptions) -> Callable[[JobSpec], list[Fault]]:
    known: dict[str, list[Fault]] = {}

    def find(spec: JobSpec) -> list[Fault]:
        digest = spec.digest(without=("name", "seed"))
        if digest not in known:
            known[digest] = [
                *path_faults(spec, me.data_roots), *needs.find(session, me, spec, options, lock=False).faults
            ]  # fmt: skip
        return known[digest]

    return find


def refuse(found: list[Fault]) -> None:
    if found:
        raise refusal(found)


def refusal(found: list[Fault]) -> Problem:
    """422 for a sweep with these faults: pointers into the sweep spec."""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    pointer, message = found[0]
    detail = f"the sweep spec cannot be used: {pointer or '/'}: {message}{more}"
    return Problem(422, detail, type=INVALID_SPEC, errors=found[:100])


class SweepVerdict(BaseModel):
    """The answer to a dry run."""

    ok: bool
    errors: list[FaultOut]
    trials: int | None = Field(description="How many trials there will be at most; null: as many as fit the budget.")
    steps: int | None = Field(description="Optimizer steps of all trials together if none is stopped early.")


def validate(session: Session, me: Principal, value: Any, options: Options) -> SweepVerdict:
    """What `submit` would say."""
    me.require(options.project, Role.VIEWER)
    try:
        spec = parse_sweep(value)
    except SpecError as error:
        return SweepVerdict(ok=False, errors=_out(error.errors), trials=None, steps=None)
    found = faults(session, me, spec, options)
    trials = None if found else most_trials(spec)
    steps = None if found or trials is None else parse_spec(spec.job).planned_steps()
    return SweepVerdict(
        ok=not found, errors=_out(found), trials=trials, steps=steps * trials if steps and trials else None
    )


def _out(found: list[Fault]) -> list[FaultOut]:
    return [FaultOut(pointer=pointer, detail=detail) for pointer, detail in found[:100]]


def most_trials(spec: SweepSpec) -> int | None:
    """The most trials that a sweep can have; None where only time limits them."""
    size = grid_size(spec.space) if isinstance(spec.search, GridSearch) else None
    limits = [limit for limit in (size, spec.budget.trials) if limit is not None]
    return min(limits) if limits else None


def _request_hash(spec: SweepSpec, options: Options) -> str:
    said = [spec.canonical(), options.priority]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _earlier(session: Session, project: str, key: str | None, same: str) -> str | None:
    if key is None:
        return None
    query = select(Sweep).where(Sweep.project_id == project, Sweep.idempotency_key == key)
    sweep = session.scalars(query).one_or_none()
    if sweep is not None and sweep.request_hash != same:
        raise Problem(409, f"this Idempotency-Key was used for another request (sweep {sweep.id}); use a new key")
    return sweep.id if sweep is not None else None
