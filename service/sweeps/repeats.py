"""After the search: the best trials again on more seeds, and the base spec as it is beside them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from bcd.spec import parse_spec
from bcd.sweep import SweepSpec
from service.models import TERMINAL, Job, Sweep, SweepState, Trial
from service.sweeps import repository, trials
from service.sweeps.events import move
from service.sweeps.ranking import best
from service.sweeps.repository import TrialRow


def begin(session: Session, sweep: Sweep, spec: SweepSpec, rows: Sequence[TrialRow]) -> None:
    """End the search of a locked sweep: make the jobs that it still needs, or finish it. Idempotent."""
    plan = spec.promote
    values = repository.values(session, [row.job for row in rows], spec.objectives)
    chosen = best(spec, [(row.trial.number, values.get(row.job.id)) for row in rows])
    if not chosen:
        move(session, sweep, SweepState.FAILED, actor="driver", cause=_why_nothing(rows))
        return
    if plan is not None:
        params = {row.trial.number: row.trial.params for row in rows}
        numbers = ([trials.DEFAULT] if plan.default else []) + chosen[: plan.top]
        for seed in seeds(spec):
            for number in numbers:
                trials.add(session, sweep, spec, number, params.get(number, {}), seed)
    move(session, sweep, SweepState.REPEATING, actor="driver")
    settle(session, sweep)


def settle(session: Session, sweep: Sweep) -> bool:
    """Finish a locked sweep all of whose jobs have ended. Was it so?"""
    if not all_ended(session, sweep.id):
        return False
    move(session, sweep, SweepState.SUCCEEDED, actor="dispatcher")
    return True


def all_ended(session: Session, sweep_id: str) -> bool:
    terminal = [state.value for state in TERMINAL]
    query = select(Job.id).join(Trial, Trial.job_id == Job.id).where(Trial.sweep_id == sweep_id)
    return session.scalars(query.where(Job.state.not_in(terminal)).limit(1)).first() is None


def seeds(spec: SweepSpec) -> list[int]:
    """Seeds of the repeats; the search's own is not among them."""
    if spec.promote is None:
        return []
    first = parse_spec(spec.job).seed
    return [(first + 1 + i) % 2**31 for i in range(spec.promote.seeds)]


def _why_nothing(rows: Sequence[TrialRow]) -> str:
    causes = sorted({row.job.cause or row.job.state for row in rows if row.job.state == "failed"})
    if causes:
        return f"no trial ran to its end; {len(rows)} began, and the failures say: {'; '.join(causes[:3])}"
    return f"no trial of {len(rows)} ran to its end"
