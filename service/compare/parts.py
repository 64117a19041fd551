"""Where a difference comes from: the same comparison for each class and each size of objects."""

from __future__ import annotations

from collections.abc import Callable

from service.compare import stats
from service.compare.compare import Group, Matched, Run, teacher_of
from service.compare.schemas import Part, PartsOfComparison, PartsOut

SIZES = {"APs": "small", "APm": "medium", "APl": "large"}

_Reader = Callable[[Run], float | None]


def build_parts(matched: Matched) -> PartsOut:
    """Differences of each comparison by class and by size.

    Many classes are looked at together, so Holm's correction runs over the classes of a comparison (and, by
    themselves, over its sizes): with 80 classes four would look significant by chance.
    """
    comparisons = []
    for group, baseline in matched.pairs:
        teacher = teacher_of(group, matched.groups)
        if teacher is not None and teacher.protocol != group.protocol:
            teacher = None  # its values do not mean the same
        classes = {name: _class_reader(name) for name in _class_names(group, baseline)}
        sizes = {name: _measure_reader(key) for key, name in SIZES.items()}
        comparisons.append(
            PartsOfComparison(
                label=group.label,
                baseline_label=baseline.label,
                teacher_label=teacher.label if teacher is not None else None,
                classes=_family(classes, group, baseline, teacher),
                sizes=_family(sizes, group, baseline, teacher),
            )
        )
    return PartsOut(comparisons=comparisons, warnings=matched.warnings)


def _family(readers: dict[str, _Reader], group: Group, baseline: Group, teacher: Group | None) -> list[Part]:
    """One part for each reader that finds a value in both groups."""
    found = []
    for name, read in readers.items():
        mine, others = _values(group, read), _values(baseline, read)
        if mine and others:
            taught = list(_values(teacher, read).values()) if teacher is not None else []
            found.append((name, mine, others, taught[0] if taught else None))
    differences = stats.corrected([stats.compare(mine, others) for _, mine, others, _ in found])
    return [
        Part(
            name=name,
            distilled=stats.summarize(list(mine.values())).mean or 0.0,
            baseline=stats.summarize(list(others.values())).mean or 0.0,
            teacher=taught,
            n=difference.n,
            paired=difference.paired,
            mean=difference.mean,
            low=difference.low,
            high=difference.high,
            p=difference.p,
            p_adjusted=difference.adjusted,
            verdict=difference.verdict,
        )
        for (name, mine, others, taught), difference in zip(found, differences, strict=True)
    ]


def _values(group: Group, read: _Reader) -> dict[int, float]:
    """Seed to value, of the runs that have one: a class without objects in the validation data has none."""
    values = ((run.spec.seed, read(run)) for run in group.runs)
    return {seed: value for seed, value in values if value is not None}


def _class_names(*groups: Group) -> list[str]:
    """The classes of the evaluations, in the order of the data set."""
    return list(dict.fromkeys(name for group in groups for run in group.runs for name in _per_class(run)))


def _per_class(run: Run) -> dict[str, float | None]:
    found = run.evaluation.results.get("per_class")
    return found if isinstance(found, dict) else {}


def _class_reader(name: str) -> _Reader:
    return lambda run: _per_class(run).get(name)


def _measure_reader(key: str) -> _Reader:
    return lambda run: run.evaluation.results.get(key)
