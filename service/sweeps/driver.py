"""What the driver of a sweep calls: the service keeps what it decides, so that any other driver can go on from there.

Fencing: only the newest driver of a sweep that searches is heard. Each call extends its lease.
"""

from __future__ import annotations

import logging
import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from bcd import crash
from bcd.spec import SpecError, parse_spec
from bcd.sweep import SweepSpec
from bcd.sweep.wire import BUDGET_SPENT, STALE_DRIVER, TRIALS_RUN, EndSearch, NewTrial, Report, SweepTicket, TrialState
from service.errors import Problem
from service.models import TERMINAL, Job, JobState, Sweep, SweepState, Trial
from service.settings import Settings
from service.sweeps import repeats, repository, trials
from service.sweeps.events import move, searched_seconds
from service.sweeps.jobs import end_job
from service.sweeps.repository import TrialRow, spec_of
from service.sweeps.submit import most_trials

log = logging.getLogger("bcd.api")


def ticket(session: Session, settings: Settings, sweep_id: str, epoch: int) -> SweepTicket:
    """What to search and all that was found so far. Raises `Problem` 404 or 409 (stale)."""
    sweep, spec = _heard(session, settings, sweep_id, epoch)
    rows = repository.trials(session, sweep.id, seed=_seed(spec))
    return SweepTicket(
        sweep_id=sweep.id, spec=sweep.spec, trials=states(session, spec, rows), lease_seconds=settings.lease_seconds
    )


def beat(session: Session, settings: Settings, sweep_id: str, epoch: int) -> None:
    """The driver is alive. Raises `Problem` 404 or 409 (stale)."""
    _heard(session, settings, sweep_id, epoch)


def add(session: Session, settings: Settings, sweep_id: str, epoch: int, wanted: NewTrial) -> TrialState | Problem:
    """The trial of this number: a new job, or the one that is there. A `Problem` that is returned, not raised, is to
    be raised once the transaction is committed: the sweep has just failed.

    Raises `Problem`: 404, 409 (stale), 409 `urn:bcd:budget-spent`, 422 for parameters that make no job.
    """
    sweep, spec = _heard(session, settings, sweep_id, epoch)
    seed = _seed(spec)
    rows = repository.trials(session, sweep.id, seed=seed)
    found = [row for row in rows if row.trial.number == wanted.number]
    if found:
        return states(session, spec, found)[0]
    if wanted.number != len(rows) + 1:
        raise Problem(422, f"the next trial is number {len(rows) + 1}, not {wanted.number}")
    failure = _failing(rows, spec)
    if failure is not None:
        move(session, sweep, SweepState.FAILED, actor="driver", cause=failure)
        return Problem(409, failure, type=STALE_DRIVER)
    spent = _spent(session, sweep, spec, len(rows))
    if spent is not None:
        raise Problem(409, spent, type=BUDGET_SPENT)
    try:
        job = trials.add(session, sweep, spec, wanted.number, wanted.params, seed)
    except (SpecError, KeyError, ValueError) as error:
        raise Problem(422, f"trial {wanted.number} makes no job spec: {error}") from None
    sweep.fruitless = 0
    trial = session.get_one(Trial, job.id)
    session.flush()
    crash.point("trial.inserted")
    return states(session, spec, [TrialRow(trial, job)])[0]


def look(session: Session, settings: Settings, sweep_id: str, epoch: int, number: int, *, after: int) -> TrialState:
    """A trial with its reports after a step. Raises `Problem` 404 or 409 (stale)."""
    sweep = session.get(Sweep, sweep_id)
    if sweep is None:
        raise _no_sweep(sweep_id)
    _refuse_stale(sweep, epoch)
    spec = spec_of(sweep)
    return states(session, spec, [_row(session, sweep, spec, number)], after=after)[0]


def stop(session: Session, settings: Settings, sweep_id: str, epoch: int, number: int, why: str) -> None:
    """End a trial early, unless it has ended. Raises `Problem` 404 or 409 (stale)."""
    sweep, spec = _heard(session, settings, sweep_id, epoch)
    row = _row(session, sweep, spec, number)
    if end_job(session, row.job.id, by=f"sweep {sweep.name}", why=why):
        row.trial.stopped = why


def end(session: Session, settings: Settings, sweep_id: str, epoch: int, how: EndSearch) -> None:
    """The search is over: train the best again, or finish. Raises `Problem` 404, 409 (stale, or trials still run)."""
    sweep, spec = _heard(session, settings, sweep_id, epoch)
    if how.failure is not None:
        log.error("the driver of sweep %s gave up: %s\n%s", sweep.id, how.failure, how.traceback or "")
        move(session, sweep, SweepState.FAILED, actor="driver", cause=how.failure)
        return
    rows = repository.trials(session, sweep.id, seed=_seed(spec))
    open_ones = [row.job.id for row in rows if row.job.state not in TERMINAL]
    if open_ones:
        raise Problem(409, f"{len(open_ones)} trials have not ended, such as job {open_ones[0]}", type=TRIALS_RUN)
    failure = _failing(rows, spec)
    if failure is not None:
        move(session, sweep, SweepState.FAILED, actor="driver", cause=failure)
    else:
        repeats.begin(session, sweep, spec, rows)
    crash.point("search.ended")


def states(session: Session, spec: SweepSpec, rows: list[TrialRow], *, after: int = -1) -> list[TrialState]:
    """Trials as a driver sees them. The evaluation of the last step is held back until the job has ended: its final
    one says more, and nobody should stop a job that is about to finish.
    """
    jobs = [row.job for row in rows]
    reports = repository.reports(session, [job.id for job in jobs], spec.objectives[0], after=after)
    values = repository.values(session, jobs, spec.objectives)
    return [
        TrialState(
            number=trial.number,
            job_id=job.id,
            params=trial.params,
            state=job.state,
            total_steps=job.total_steps,
            reports=[
                Report(step=step, value=value)
                for step, value in reports[job.id]
                if job.state != JobState.RUNNING or step < job.total_steps
            ],
            values=values.get(job.id),
            cause=trial.stopped or job.cause,
        )
        for trial, job in rows
    ]


def _heard(session: Session, settings: Settings, sweep_id: str, epoch: int) -> tuple[Sweep, SweepSpec]:
    """The sweep, locked, for its current driver, whose lease begins anew."""
    sweep = session.get(Sweep, sweep_id, with_for_update=True)
    if sweep is None:
        raise _no_sweep(sweep_id)
    _refuse_stale(sweep, epoch)
    sweep.lease_until = time.time() + settings.lease_seconds
    return sweep, spec_of(sweep)


def _refuse_stale(sweep: Sweep, epoch: int) -> None:
    if sweep.state != SweepState.SEARCHING:
        raise Problem(409, f"sweep {sweep.id} is {sweep.state}; stop this driver", type=STALE_DRIVER)
    if epoch != sweep.epoch:
        raise Problem(409, f"sweep {sweep.id} has a newer driver; stop this one", type=STALE_DRIVER)


def _no_sweep(sweep_id: str) -> Problem:
    return Problem(404, f"there is no sweep {sweep_id!r}")


def _row(session: Session, sweep: Sweep, spec: SweepSpec, number: int) -> TrialRow:
    query = select(Trial, Job).join(Job, Job.id == Trial.job_id)
    query = query.where(Trial.sweep_id == sweep.id, Trial.number == number, Trial.seed == _seed(spec))
    row = session.execute(query).one_or_none()
    if row is None:
        raise Problem(404, f"sweep {sweep.id} has no trial {number}")
    return TrialRow(*row)


def _seed(spec: SweepSpec) -> int:
    return parse_spec(spec.job).seed


def _spent(session: Session, sweep: Sweep, spec: SweepSpec, count: int) -> str | None:
    """Why no further trial begins."""
    now, budget = time.time(), spec.budget
    most = most_trials(spec)
    if most is not None and count >= most:
        return f"all {most} trials have begun"
    if budget.hours is not None and searched_seconds(sweep, now) / 3600 >= budget.hours:
        return f"the {budget.hours:g} hours are over"
    if budget.gpu_hours is not None:
        used = repository.gpu_hours(session, sweep.id, now=now)
        if used >= budget.gpu_hours:
            return f"{used:.2f} of {budget.gpu_hours:g} GPU hours are used"
    return None


def _failing(rows: list[TrialRow], spec: SweepSpec) -> str | None:
    """Why it makes no sense to go on: so many trials in a row, of those that ended, failed with the same cause."""
    ended = sorted((row.job for row in rows if row.job.ended_at is not None), key=lambda job: job.ended_at or 0.0)
    last = ended[-spec.equal_failures :]
    if len(last) < spec.equal_failures or any(job.state != JobState.FAILED for job in last):
        return None
    causes = {job.cause for job in last}
    return f"{len(last)} trials in a row failed with the same cause: {last[0].cause}" if len(causes) == 1 else None
