"""The statistics of a comparison: pure functions on numbers, no database.

Values are AP in points (0 to 100); a seed is one independent training run. Below `ENOUGH` seeds no interval is
given, because a t interval from one or two runs says nothing that a reader should act on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

Verdict = Literal["better", "worse", "no clear difference", "not enough seeds"]

ENOUGH = 3
CONFIDENCE = 0.95
CORRECTED_FROM = 3  # comparisons side by side from which on one of them may look significant by chance
RESAMPLES = 2000


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) of n values; None where there are too few."""

    n: int
    mean: float | None
    std: float | None

    @property
    def standard_error(self) -> float | None:
        return None if self.std is None else self.std / math.sqrt(self.n)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean; None with fewer than `ENOUGH` values."""
        if self.n < ENOUGH:
            return None
        half = float(stdtrit(self.n - 1, 0.5 + CONFIDENCE / 2)) * _known(self.standard_error)
        return _known(self.mean) - half, _known(self.mean) + half


@dataclass(frozen=True)
class Difference:
    """Candidate minus baseline. `differences` are per common seed; `n` is the number of pairs or of the smaller group.

    `low` and `high` bound the 95 % interval of the mean difference, `p` is the two-sided one of the same t test; None
    with fewer than `ENOUGH` seeds. `adjusted` is `p` after Holm's correction, where one was made.
    """

    paired: bool
    n: int
    differences: tuple[tuple[int, float], ...]
    mean: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    p: float | None = None
    adjusted: float | None = None


def summarize(values: Sequence[float]) -> Summary:
    if not values:
        return Summary(0, None, None)
    array = np.asarray(values, dtype=np.float64)
    return Summary(len(values), float(array.mean()), float(array.std(ddof=1)) if len(values) > 1 else None)


def compare(candidate: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Compare two groups given as seed -> value: paired over common seeds where there are enough, else Welch's t.

    Pairing takes out what the seed alone does (same initial weights and batch order), so it comes first.
    """
    common = sorted(candidate.keys() & baseline.keys())
    differences = tuple((seed, candidate[seed] - baseline[seed]) for seed in common)
    if len(common) >= ENOUGH:
        one = summarize([value for _, value in differences])
        return _with_interval(True, one.n, differences, _known(one.mean), _known(one.standard_error), one.n - 1)
    a, b = summarize(list(candidate.values())), summarize(list(baseline.values()))
    mean = a.mean - b.mean if a.mean is not None and b.mean is not None else None
    if min(a.n, b.n) >= ENOUGH:
        error, freedom = _welch(a, b)
        return _with_interval(False, min(a.n, b.n), differences, _known(mean), error, freedom)
    if common:
        mean = sum(value for _, value in differences) / len(common)
        return Difference(True, len(common), differences, mean, None, None, "not enough seeds")
    return Difference(False, min(a.n, b.n), differences, mean, None, None, "not enough seeds")


def gap_closed(distilled: Summary, baseline: Summary, teacher: Summary) -> tuple[float | None, str | None]:
    """(distilled - baseline) / (teacher - baseline), or None and the reason why the ratio would mean nothing.

    A single teacher is a fixed network and adds no noise of its own.
    """
    if teacher.mean is None or baseline.mean is None or distilled.mean is None:
        return None, "the teacher, the baseline or the distilled group has no result"
    if baseline.standard_error is None:
        return None, "one baseline run does not tell how far the teacher is above the noise; run more seeds"
    error = math.hypot(baseline.standard_error, teacher.standard_error or 0.0)
    gap = teacher.mean - baseline.mean
    if gap <= 2 * error:
        reason = (
            f"the teacher ({teacher.mean:.1f} AP) is not above the baseline ({baseline.mean:.1f} AP) by more than "
            f"2 standard errors ({2 * error:.1f} AP)"
        )
        return None, reason
    return (distilled.mean - baseline.mean) / gap, None


def _with_interval(
    paired: bool,
    n: int,
    differences: tuple[tuple[int, float], ...],
    mean: float,
    error: float,
    freedom: float,
) -> Difference:
    half = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error
    low, high = mean - half, mean + half
    verdict: Verdict = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    if error > 0:
        p = 2 * float(stdtr(freedom, -abs(mean) / error))
    else:
        p = 0.0 if mean else 1.0
    return Difference(paired, n, differences, mean, low, high, verdict, p)


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The same with Holm's correction over those that have a p (Holm 1979), from `CORRECTED_FROM` of them on.

    Their verdicts follow the adjusted p: of many comparisons one is below 0.05 by chance sooner or later.
    """
    tested = sorted(
        (i for i, one in enumerate(differences) if one.p is not None), key=lambda i: differences[i].p or 0.0
    )
    out = list(differences)
    if len(tested) < CORRECTED_FROM:
        return out
    highest = 0.0
    for rank, i in enumerate(tested):
        one = differences[i]
        highest = max(highest, min(1.0, (len(tested) - rank) * _known(one.p)))
        verdict: Verdict = one.verdict if highest < 1 - CONFIDENCE else "no clear difference"
        out[i] = replace(one, adjusted=highest, verdict=verdict)
    return out


def gap_interval(
    distilled: Mapping[int, float], baseline: Mapping[int, float], teacher: Summary
) -> tuple[float, float] | None:
    """The 95 % interval of `gap_closed` by resampling seeds (percentile bootstrap, fixed random numbers).

    Pairs are drawn as pairs where there are enough. The teacher stays as it is: a fixed network. Draws in which it is
    not above the baseline have no ratio and are left out. None with fewer than `ENOUGH` seeds on either side.
    """
    common = sorted(distilled.keys() & baseline.keys())
    if teacher.mean is None or min(len(distilled), len(baseline)) < ENOUGH:
        return None
    random = np.random.default_rng(0)
    if len(common) >= ENOUGH:
        drawn = random.integers(len(common), size=(RESAMPLES, len(common)))
        a = np.array([distilled[seed] for seed in common])[drawn].mean(1)
        b = np.array([baseline[seed] for seed in common])[drawn].mean(1)
    else:
        a, b = (
            random.choice(np.array(list(one.values())), (RESAMPLES, len(one))).mean(1) for one in (distilled, baseline)
        )
    gap = teacher.mean - b
    if not (gap > 0).any():
        return None
    closed = (a - b)[gap > 0] / gap[gap > 0]
    low, high = np.quantile(closed, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _welch(a: Summary, b: Summary) -> tuple[float, float]:
    """Standard error of the difference of means and the Welch-Satterthwaite degrees of freedom."""
    va, vb = _known(a.standard_error) ** 2, _known(b.standard_error) ** 2
    if va + vb == 0:
        return 0.0, float(a.n + b.n - 2)
    return math.sqrt(va + vb), (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))


def _known(value: float | None) -> float:
    assert value is not None, "the caller has counted the values"
    return value
