"""What people do to a sweep: pause, resume, stop, extend. Doing it again changes nothing. The caller commits."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from bcd.spec import SpecError
from bcd.sweep import Budget, Promotion, parse_sweep
from service.access import audit
from service.access.principal import Principal
from service.errors import Problem
from service.models import JobState, Sweep, SweepState
from service.sweeps import repository
from service.sweeps.events import ENDED, move
from service.sweeps.jobs import end_job, for_each, pause_job, resume_job
from service.sweeps.submit import most_trials, refusal

S = SweepState


def pause(session: Session, me: Principal, sweep_id: str) -> Sweep:
    """No trial begins, those that run stop at a checkpoint. Raises `Problem` 404, 403 or 409."""
    sweep = repository.to_change(session, me, sweep_id)
    if sweep.state in ENDED:
        raise Problem(409, f"sweep {sweep.id} is {sweep.state}; only one that goes on can be paused")
    if sweep.state != S.PAUSED:
        sweep.paused_from = sweep.state
        move(session, sweep, S.PAUSED, actor="user", by=me.name)
        for_each(session, sweep.id, lambda job_id: pause_job(session, job_id, by=me.name))
        _note(session, me, "sweep.pause", sweep)
    return sweep


def resume(session: Session, me: Principal, sweep_id: str) -> Sweep:
    """Go on where it was paused. Raises `Problem` 404, 403 or 409."""
    sweep = repository.to_change(session, me, sweep_id)
    if sweep.state in ENDED:
        raise Problem(409, f"sweep {sweep.id} is {sweep.state}; to add trials, extend it")
    if sweep.state == S.PAUSED:
        pausing = repository.counts(session, [sweep.id])[sweep.id].get(JobState.PAUSING.value, 0)
        if pausing:
            raise Problem(409, f"{pausing} of its jobs are still pausing; resume it once they are paused")
        move(session, sweep, S(sweep.paused_from or S.SEARCHING), actor="user", by=me.name)
        for_each(session, sweep.id, lambda job_id: resume_job(session, job_id, by=me.name))
        _begin_anew(sweep)
        _note(session, me, "sweep.resume", sweep)
    return sweep


def stop(session: Session, me: Principal, sweep_id: str) -> Sweep:
    """End it now: jobs that have not ended are cancelled, what was found stays. Raises `Problem` 404, 403 or 409."""
    sweep = repository.to_change(session, me, sweep_id)
    if sweep.state in (S.SUCCEEDED, S.FAILED):
        raise Problem(409, f"sweep {sweep.id} has already {sweep.state}; there is nothing to stop")
    if sweep.state != S.STOPPED:
        move(session, sweep, S.STOPPED, actor="user", by=me.name, cause=f"stopped by {me.name}")
        for_each(session, sweep.id, lambda job_id: end_job(session, job_id, by=me.name, why="its sweep was stopped"))
        _note(session, me, "sweep.stop", sweep)
    return sweep


class Extension(BaseModel):
    """A larger budget, as the whole new one; and how to train the best again, if that is to change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    budget: dict[str, Any] | None = None
    promote: dict[str, Any] | None = None


def extend(session: Session, me: Principal, sweep_id: str, wanted: Extension) -> Sweep:
    """Let an ended sweep search on with a larger budget; all that it knows stays. Also one that still searches gets
    it. Raises `Problem` 404, 403, 409 or 422.
    """
    sweep = repository.to_change(session, me, sweep_id)
    spec = repository.spec_of(sweep)
    given = wanted.model_dump(exclude_none=True)
    if not given:
        raise Problem(422, 'give a budget, such as {"budget": {"trials": 100}}, or promote')
    try:
        changed = parse_sweep({**sweep.spec, **given})
    except SpecError as error:
        raise refusal(error.errors) from None
    more, had = most_trials(changed), most_trials(spec)
    if changed.budget != spec.budget and more is not None and (had is None or more < had):
        raise refusal([("/budget/trials", f"the sweep has {had or 'no limit of'} trials already; give more")])
    if changed.canonical() == spec.canonical():
        return sweep
    sweep.spec = changed.canonical()
    if sweep.state in (*ENDED, S.REPEATING):
        move(session, sweep, S.SEARCHING, actor="user", by=me.name)
        _begin_anew(sweep)
    data = {
        "budget": Budget.model_dump(changed.budget, exclude_none=True),
        "promote": Promotion.model_dump(changed.promote) if changed.promote else None,
    }
    _note(session, me, "sweep.extend", sweep, **data)
    return sweep


def _begin_anew(sweep: Sweep) -> None:
    """The next driver begins with a clean slate."""
    sweep.fruitless, sweep.lease_until = 0, 0.0


def _note(session: Session, me: Principal, action: str, sweep: Sweep, **data: Any) -> None:
    audit.record(session, me, action, sweep.id, project_id=sweep.project_id, data=data)
