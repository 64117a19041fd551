"""What a sweep found: the ranking over seeds, what mattered, and what it cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from bcd.spec import parse_spec
from bcd.sweep import SweepSpec, trial_values
from service.compare import stats
from service.models import Attempt, Job, Sweep, Trial
from service.sweeps import ranking, repository
from service.sweeps.importance import Tried
from service.sweeps.repository import TrialRow, spec_of
from service.sweeps.schemas import Progress, Ranked, Spent, SweepReport, TrialOut
from service.sweeps.shown import sweep_out
from service.sweeps.trials import DEFAULT

_Values = dict[str, list[float | None]]


def trials_out(session: Session, sweep: Sweep) -> list[TrialOut]:
    """All runs of a sweep."""
    spec, rows = spec_of(sweep), repository.trials(session, sweep.id)
    jobs = [row.job for row in rows]
    values = repository.values(session, jobs, spec.objectives)
    reports = repository.reports(session, [job.id for job in jobs], spec.objectives[0])
    return [
        TrialOut(
            number=trial.number,
            seed=trial.seed,
            job_id=job.id,
            params=trial.params,
            state=job.state,
            step=job.step,
            total_steps=job.total_steps,
            values=values.get(job.id),
            last=reports[job.id][-1][1] if reports[job.id] else None,
            stopped=trial.stopped,
            cause=None if trial.stopped else job.cause,
            started_at=job.started_at,
            ended_at=job.ended_at,
        )
        for trial, job in rows
    ]


def report(session: Session, sweep: Sweep) -> SweepReport:
    """Everything at once; computed from the database each time."""
    spec, rows = spec_of(sweep), repository.trials(session, sweep.id)
    values = repository.values(session, [row.job for row in rows], spec.objectives)
    first = parse_spec(spec.job).seed
    searched = [row for row in rows if row.trial.number != DEFAULT and row.trial.seed == first]
    found = [(row.trial.number, values.get(row.job.id)) for row in searched]
    best = ranking.best(spec, found)
    ranked = _ranking(spec, rows, values, first)
    failed = Counter((row.job.cause or "no cause") for row in searched if row.job.state == "failed")
    return SweepReport(
        sweep=sweep_out(sweep, repository.counts(session, [sweep.id])[sweep.id]),
        best=best,
        front=ranking.front(spec, found) if len(spec.objectives) > 1 else [],
        best_so_far=_best_so_far(spec, searched, values),
        ranking=ranked,
        sentence=_sentence(spec, sweep, searched, values, best, ranked),
        failures=dict(failed.most_common(20)),
        stopped=sum(row.trial.stopped is not None for row in searched),
        spent=_spent(session, sweep, searched),
    )


def importance(session: Session, sweep: Sweep) -> tuple[SweepSpec, list[Tried]]:
    """What `importances` is computed from."""
    spec = spec_of(sweep)
    rows = repository.trials(session, sweep.id, seed=parse_spec(spec.job).seed)
    values = repository.values(session, [row.job for row in rows], spec.objectives)
    return spec, [(row.trial.params, values.get(row.job.id)) for row in rows]


def best_spec(session: Session, sweep: Sweep) -> dict[str, object] | None:
    """The plain job spec of the winner: of the repeats where there are any, else of the search. None: nothing yet."""
    spec, rows = spec_of(sweep), repository.trials(session, sweep.id)
    values = repository.values(session, [row.job for row in rows], spec.objectives)
    first = parse_spec(spec.job).seed
    number = _winner(spec, rows, values, first)
    params = next((row.trial.params for row in rows if row.trial.number == number), None)
    if number is None or params is None:
        return None
    made = trial_values(parse_spec(spec.job).canonical(), spec.space, params)
    return parse_spec({**made, "name": f"{sweep.name} best"}).canonical()


def _winner(spec: SweepSpec, rows: Sequence[TrialRow], values: _Values, first: int) -> int | None:
    ranked = [one for one in _ranking(spec, rows, values, first) if one.number != DEFAULT and one.mean is not None]
    if ranked:
        return ranked[0].number
    searched = [row for row in rows if row.trial.seed == first and row.trial.number != DEFAULT]
    best = ranking.best(spec, [(row.trial.number, values.get(row.job.id)) for row in searched])
    return best[0] if best else None


def _ranking(spec: SweepSpec, rows: Sequence[TrialRow], values: _Values, first: int) -> list[Ranked]:
    """Repeats only: the search's own run of a trial was chosen for its luck."""
    if spec.promote is None:
        return []
    by_number: dict[int, dict[int, float]] = {}
    params, searched = {DEFAULT: {}}, {}  # type: dict[int, dict[str, object]], dict[int, float | None]
    for trial, job in rows:
        got = values.get(job.id)
        if trial.seed == first and trial.number != DEFAULT:
            searched[trial.number] = got[0] if got else None
            continue
        params[trial.number] = trial.params
        seen = by_number.setdefault(trial.number, {})
        if got and got[0] is not None:
            seen[trial.seed] = got[0]
    default = by_number.get(DEFAULT, {})
    sign = 1.0 if spec.objectives[0].larger_is_better else -1.0
    others = sorted(number for number in by_number if number != DEFAULT)
    differences = dict(
        zip(others, stats.corrected([stats.compare(by_number[number], default) for number in others]), strict=True)
    )
    out = []
    for number, seen in by_number.items():
        mine = stats.summarize(list(seen.values()))
        other = differences.get(number)
        out.append(
            Ranked(
                number=number,
                params=params[number],
                search_value=searched.get(number),
                n=mine.n,
                mean=mine.mean,
                std=mine.std,
                low=mine.interval[0] if mine.interval else None,
                high=mine.interval[1] if mine.interval else None,
                difference=other.mean if other else None,
                difference_low=other.low if other else None,
                difference_high=other.high if other else None,
                p_adjusted=(other.adjusted if other.adjusted is not None else other.p) if other else None,
                verdict=other.verdict if other and default else None,
            )
        )
    return sorted(out, key=lambda one: (one.mean is None, -sign * (one.mean or 0.0), one.number))


def _best_so_far(spec: SweepSpec, rows: Sequence[TrialRow], values: _Values) -> list[Progress]:
    """In the order in which trials ended."""
    larger, out = spec.objectives[0].larger_is_better, list[Progress]()
    for trial, job in sorted(rows, key=lambda row: (row.job.ended_at or 0.0, row.trial.number)):
        got = values.get(job.id)
        if got is None or got[0] is None or job.ended_at is None:
            continue
        value = got[0]
        before = out[-1].best if out else value
        best = max(before, value) if larger else min(before, value)
        out.append(Progress(number=trial.number, time=job.ended_at, value=value, best=best))
    return out


def _spent(session: Session, sweep: Sweep, searched: Sequence[TrialRow]) -> Spent:
    now = time.time()
    query = select(Attempt.created_at, Attempt.ended_at, Attempt.gpus).join(Trial, Trial.job_id == Attempt.job_id)
    rows = session.execute(query.where(Trial.sweep_id == sweep.id)).all()
    return Spent(
        trials=len(searched),
        steps=sum(row.job.step for row in searched),
        steps_in_full=sum(row.job.total_steps for row in searched),
        worker_hours=sum((ended or now) - created for created, ended, _ in rows) / 3600,
        gpu_hours=sum(((ended or now) - created) * gpus for created, ended, gpus in rows) / 3600,
    )


def _sentence(
    spec: SweepSpec, sweep: Sweep, searched: Sequence[TrialRow], values: _Values, best: list[int], ranked: list[Ranked]
) -> str:
    metric = spec.objectives[0].metric
    if not best:
        return "No trial has run to its end yet." if searched else "No trial has begun yet."
    top: Job = next(row.job for row in searched if row.trial.number == best[0])
    value = (values[top.id][0]) or 0.0
    won = next((one for one in ranked if one.number != DEFAULT and one.mean is not None), None)
    if won is None or won.mean is None:
        more = "" if spec.promote else "; a single run may be luck: `promote` trains the best again on more seeds"
        return f"Best of {len(searched)} trials: #{best[0]} with {metric} {value:.2f} on one seed{more}."
    text = f"#{won.number} has the best mean: {metric} {won.mean:.2f} over {won.n} seed{'s' if won.n != 1 else ''}"
    if won.difference is None or won.verdict is None:
        return text + "."
    against = f"{won.difference:+.2f} against the untuned default"
    if won.difference_low is not None and won.difference_high is not None:
        against += f" [{won.difference_low:+.2f}, {won.difference_high:+.2f}]"
    better = spec.objectives[0].larger_is_better
    words = {
        "better": "better beyond noise" if better else "higher beyond noise",
        "worse": "worse beyond noise" if better else "lower beyond noise",
        "no clear difference": "no clear difference",
        "not enough seeds": "not enough seeds to tell it from noise",
    }
    return f"{text}, {against}: {words[won.verdict]}."
