"""From jobs to the answer: which runs belong together, what is compared with what, and what must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bcd.spec import JobSpec, parse_spec
from service.compare import stats
from service.compare.schemas import ComparedJob, CompareOut, ComparisonOut, GroupOut, Role, SeedDifference
from service.compare.sentences import sentence
from service.jobs.describe import detector_name
from service.models import Evaluation, Job, JobState

_ROLES: tuple[Role, ...] = ("distilled", "baseline", "teacher", "other")


@dataclass(frozen=True)
class Run:
    """A finished job with its final evaluation."""

    job: Job
    spec: JobSpec
    evaluation: Evaluation

    @property
    def ap(self) -> float:
        return float(self.evaluation.results["AP"])


@dataclass
class Group:
    """Runs of one role that differ in name and seed only, judged under one protocol."""

    role: Role
    label: str
    protocol: str
    runs: list[Run] = field(default_factory=list)

    @property
    def spec(self) -> JobSpec:
        return self.runs[0].spec

    @property
    def by_seed(self) -> dict[int, float]:
        return {run.spec.seed: run.ap for run in self.runs}

    @property
    def summary(self) -> stats.Summary:
        return stats.summarize([run.ap for run in self.runs])


@dataclass(frozen=True)
class Matched:
    """Which groups there are, which of them are compared, each with its baseline, and what is left out and why."""

    groups: list[Group]
    pairs: list[tuple[Group, Group]]
    warnings: list[str]


def match(asked: Sequence[Job], teachers: Sequence[Job], finals: dict[str, Evaluation]) -> Matched:
    """Sort jobs into groups. `teachers`: the asked jobs' teacher jobs; `finals`: final evaluations by job id."""
    warnings: list[str] = []
    runs = _usable(asked, finals, warnings)
    asked_ids = {job.id for job in asked}
    teacher_runs = _usable([job for job in teachers if job.id not in asked_ids], finals, warnings)
    groups = _groups(runs, teacher_runs, warnings)
    _make_labels_distinct(groups)
    pairs = [
        (group, baseline)
        for group in groups
        if group.role == "distilled"
        for baseline in _baselines_of(group, groups, warnings)
    ]
    return Matched(groups, pairs, warnings)


def build(matched: Matched) -> CompareOut:
    """The comparison of AP."""
    differences = stats.corrected([stats.compare(group.by_seed, baseline.by_seed) for group, baseline in matched.pairs])
    comparisons = [
        _comparison(group, baseline, teacher_of(group, matched.groups), difference)
        for (group, baseline), difference in zip(matched.pairs, differences, strict=True)
    ]
    groups = [_group_out(group) for group in matched.groups]
    return CompareOut(groups=groups, comparisons=comparisons, warnings=matched.warnings)


def _usable(jobs: Iterable[Job], finals: dict[str, Evaluation], warnings: list[str]) -> list[Run]:
    """The jobs that have a result; for each of the others a warning."""
    runs = []
    for job in jobs:
        evaluation = finals.get(job.id)
        if job.state != JobState.SUCCEEDED:
            why = f": {job.cause}" if job.cause else ""
            warnings.append(f"job {job.id} ({job.name}) is {job.state} and is left out{why}")
        elif evaluation is None or evaluation.results.get("AP") is None:
            warnings.append(f"job {job.id} ({job.name}) has no AP and is left out")
        else:
            runs.append(Run(job, parse_spec(job.spec), evaluation))
    return runs


def _groups(runs: Sequence[Run], teacher_runs: Sequence[Run], warnings: list[str]) -> list[Group]:
    distilled_bases = {_base(run.spec) for run in runs if run.spec.methods}
    teacher_ids = {run.job.teacher_job_id for run in runs} - {None}
    found: dict[tuple[str, ...], Group] = {}
    for run in sorted([*runs, *teacher_runs], key=lambda run: (run.job.created_at, run.job.id)):
        roles: list[Role] = []
        if run.spec.methods:
            roles.append("distilled")
        elif run in runs and _base(run.spec) in distilled_bases:
            roles.append("baseline")
        if run.job.id in teacher_ids:
            roles.append("teacher")  # also when it is a baseline run: a student may learn from its own kind
        for role in roles or ["other"]:
            # each teacher stands alone: a distilled group learned from this very network
            key = (role, run.job.id if role == "teacher" else _same_but_seed(run.spec), run.evaluation.protocol)
            group = found.setdefault(key, Group(role, _label(role, run.spec), run.evaluation.protocol))
            _add(group, run, warnings)
    return sorted(found.values(), key=lambda group: _ROLES.index(group.role))


def _add(group: Group, run: Run, warnings: list[str]) -> None:
    """Add a run; one that repeats a seed replaces the earlier one: it is no further evidence."""
    for i, other in enumerate(group.runs):
        if other.spec.seed == run.spec.seed:
            warnings.append(f"job {other.job.id} is left out: job {run.job.id} repeats it with the same seed")
            group.runs[i] = run
            return
    group.runs.append(run)


def _baselines_of(group: Group, groups: Sequence[Group], warnings: list[str]) -> list[Group]:
    """Those that the group may be compared with; for each of the others a warning."""
    baselines = [other for other in groups if other.role == "baseline" and _base(other.spec) == _base(group.spec)]
    if not baselines:
        warnings.append(
            f"{group.label} has no baseline here: submit the same spec without `teacher` and `methods`, with the "
            "same seeds, and compare again"
        )
    out = []
    for baseline in baselines:
        if baseline.protocol != group.protocol:
            warnings.append(
                f"{group.label} is not compared with {baseline.label}: they were judged under different protocols "
                f"({group.protocol[:12]} and {baseline.protocol[:12]}), so their AP values do not mean the same"
            )
        else:
            out.append(baseline)
    return out


def teacher_of(group: Group, groups: Sequence[Group]) -> Group | None:
    """The teacher of a distilled group, where it is a finished job that was loaded."""
    teacher_id = group.runs[0].job.teacher_job_id
    mine = (other for other in groups if other.role == "teacher" and other.runs[0].job.id == teacher_id)
    return next(mine, None)


def _comparison(group: Group, baseline: Group, teacher: Group | None, difference: stats.Difference) -> ComparisonOut:
    closed: float | None = None
    between: tuple[float, float] | None = None
    reason: str | None
    if teacher is None:
        reason = "the teacher is no finished job of this installation"
    elif teacher.protocol != group.protocol:
        reason = "the teacher was judged under another protocol"
    else:
        closed, reason = stats.gap_closed(group.summary, baseline.summary, teacher.summary)
        if closed is not None:
            between = stats.gap_interval(group.by_seed, baseline.by_seed, teacher.summary)
    return ComparisonOut(
        label=group.label,
        baseline_label=baseline.label,
        paired=difference.paired,
        n=difference.n,
        differences=[SeedDifference(seed=seed, value=value) for seed, value in difference.differences],
        mean=difference.mean,
        low=difference.low,
        high=difference.high,
        p=difference.p,
        p_adjusted=difference.adjusted,
        verdict=difference.verdict,
        teacher_label=teacher.label if teacher is not None else None,
        gap_closed=closed,
        gap_low=between[0] if between is not None else None,
        gap_high=between[1] if between is not None else None,
        gap_reason=reason,
        sentence=sentence(group.label, baseline.label, difference, closed),
    )


def _same_but_seed(spec: JobSpec) -> str:
    return spec.digest(without=("name", "seed"))


def _base(spec: JobSpec) -> str:
    """What a distilled run and its baseline share: labelled data, student, schedule and evaluation.

    Unlabelled images belong to the distillation: without a teacher they would teach nothing, and no baseline has any.
    """
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"unlabeled": None})})
    return spec.digest(without=("name", "seed", "teacher", "methods", "resources"))


def _label(role: Role, spec: JobSpec) -> str:
    methods = " + ".join(method.type for method in spec.methods)
    what = {"distilled": methods, "baseline": "baseline", "teacher": "teacher", "other": methods or "plain"}[role]
    return f"{what} {detector_name(spec.student)}"


def _make_labels_distinct(groups: Sequence[Group]) -> None:
    for add in (lambda group, _: group.runs[0].job.name, lambda _, number: f"#{number}"):
        counts, seen = Counter(group.label for group in groups), Counter[str]()
        for group in groups:
            if counts[group.label] > 1:
                seen[group.label] += 1
                group.label = f"{group.label} ({add(group, seen[group.label])})"


def _group_out(group: Group) -> GroupOut:
    summary = group.summary
    return GroupOut(
        role=group.role,
        label=group.label,
        protocol=group.protocol,
        jobs=[_job_out(run) for run in sorted(group.runs, key=lambda run: run.spec.seed)],
        n=summary.n,
        mean=summary.mean,
        std=summary.std,
        low=summary.interval[0] if summary.interval is not None else None,
        high=summary.interval[1] if summary.interval is not None else None,
    )


def _job_out(run: Run) -> ComparedJob:
    results = run.evaluation.results
    others = {key: results.get(key) for key in ("AP50", "AP75", "APs", "APm", "APl")}
    return ComparedJob(id=run.job.id, name=run.job.name, seed=run.spec.seed, AP=run.ap, **others)
