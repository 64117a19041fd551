"""The statistics against cases worked by hand and against scipy.stats."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from service.compare import stats
from service.compare.stats import Summary

ap = st.floats(0, 100, allow_nan=False).map(lambda value: round(value, 3))


def test_summary_by_hand() -> None:
    assert stats.summarize([2.0, 4.0, 9.0]) == Summary(3, 5.0, pytest.approx(math.sqrt(13.0)))
    assert stats.summarize([7.0]) == Summary(1, 7.0, None)
    assert stats.summarize([]) == Summary(0, None, None)


def test_paired_interval_by_hand() -> None:
    # differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(2, .975) = 4.30265
    result = stats.compare({0: 11.0, 1: 22.0, 2: 33.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    assert (result.paired, result.n, result.differences) == (True, 3, ((0, 1.0), (1, 2.0), (2, 3.0)))
    half = 4.302653 / math.sqrt(3)
    assert (result.mean, result.low, result.high) == pytest.approx((2.0, 2 - half, 2 + half), abs=1e-5)
    assert result.verdict == "no clear difference"


@pytest.mark.parametrize(("shift", "verdict"), [(5.0, "better"), (-5.0, "worse"), (0.0, "no clear difference")])
def test_the_verdict_follows_the_interval(shift: float, verdict: str) -> None:
    noise = [0.3, -0.2, 0.1, -0.1]
    candidate = {seed: 30.0 + shift + noise[seed] for seed in range(4)}
    assert stats.compare(candidate, dict.fromkeys(range(4), 30.0)).verdict == verdict


@pytest.mark.parametrize(("a", "b", "paired"), [([0], [0], True), ([0, 1], [0, 1], True), ([0, 1, 2], [3, 4], False)])
def test_fewer_than_three_seeds_give_no_interval_however_large_the_difference(
    a: list[int], b: list[int], paired: bool
) -> None:
    result = stats.compare(dict.fromkeys(a, 90.0), dict.fromkeys(b, 1.0))
    assert (result.verdict, result.low, result.high) == ("not enough seeds", None, None)
    assert (result.mean, result.paired) == (89.0, paired)


def test_seeds_without_a_partner_are_compared_by_welch() -> None:
    result = stats.compare({0: 31.0, 1: 33.0, 2: 32.5}, {5: 30.0, 6: 29.0, 7: 30.5, 8: 29.5})
    expected = scipy_stats.ttest_ind([31.0, 33.0, 32.5], [30.0, 29.0, 30.5, 29.5], equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert (result.paired, result.n) == (False, 3)
    assert (result.low, result.high) == pytest.approx((low, high))


def test_two_common_seeds_are_too_few_to_pair_so_all_seeds_count() -> None:
    result = stats.compare({0: 1.0, 1: 2.0, 2: 3.0}, {0: 1.0, 1: 2.0, 9: 3.5})
    assert not result.paired
    assert [seed for seed, _ in result.differences] == [0, 1]


@given(st.dictionaries(st.integers(0, 50), st.tuples(ap, ap), min_size=3, max_size=12))
def test_paired_intervals_equal_those_of_scipy(pairs: dict[int, tuple[float, float]]) -> None:
    a, b = {s: v[0] for s, v in pairs.items()}, {s: v[1] for s, v in pairs.items()}
    result = stats.compare(a, b)
    values = [a[seed] - b[seed] for seed in sorted(pairs)]
    error = float(scipy_stats.sem(values))
    if error > 1e-9:
        low, high = scipy_stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=error)
        assert (result.low, result.high) == pytest.approx((low, high), abs=1e-6)
    assert result.low is not None
    assert result.high is not None
    assert result.low <= result.high


@given(st.dictionaries(st.integers(0, 9), ap, max_size=6), st.dictionaries(st.integers(0, 9), ap, max_size=6))
def test_swapping_the_groups_mirrors_the_result(a: dict[int, float], b: dict[int, float]) -> None:
    opposite = {"better": "worse", "worse": "better"}
    one, other = stats.compare(a, b), stats.compare(b, a)
    assert other.verdict == opposite.get(one.verdict, one.verdict)
    if one.mean is not None and other.mean is not None:
        assert one.mean == pytest.approx(-other.mean)


@given(st.dictionaries(st.integers(0, 9), ap, min_size=3, max_size=6))
def test_a_group_is_never_better_than_itself(values: dict[int, float]) -> None:
    result = stats.compare(values, values)
    assert (result.mean, result.verdict) == (0.0, "no clear difference")


def test_equal_gains_without_any_spread_are_a_gain() -> None:
    result = stats.compare(dict.fromkeys(range(3), 2.0), dict.fromkeys(range(3), 1.0))
    assert (result.low, result.high, result.verdict) == (1.0, 1.0, "better")
    unpaired = stats.compare(dict.fromkeys(range(3), 2.0), dict.fromkeys(range(3, 6), 1.0))
    assert (unpaired.paired, unpaired.low, unpaired.verdict) == (False, 1.0, "better")


def test_gap_closed_by_hand() -> None:
    baseline = stats.summarize([29.0, 30.0, 31.0])
    assert stats.gap_closed(stats.summarize([32.0]), baseline, stats.summarize([40.0])) == (pytest.approx(0.2), None)
    assert stats.gap_closed(stats.summarize([41.0]), baseline, stats.summarize([40.0]))[0] == pytest.approx(1.1)
    assert stats.gap_closed(stats.summarize([28.0]), baseline, stats.summarize([40.0]))[0] == pytest.approx(-0.2)


def test_no_gap_is_claimed_when_the_teacher_is_within_noise_of_the_baseline() -> None:
    baseline = stats.summarize([29.0, 30.0, 31.0])  # standard error 0.577
    for teacher in (31.1, 30.0, 20.0):
        closed, reason = stats.gap_closed(stats.summarize([31.0]), baseline, stats.summarize([teacher]))
        assert closed is None
        assert reason is not None
        assert "2 standard errors" in reason
    assert stats.gap_closed(stats.summarize([31.0]), baseline, stats.summarize([31.2]))[0] is not None
    closed, reason = stats.gap_closed(stats.summarize([31.0]), stats.summarize([30.0]), stats.summarize([40.0]))
    assert closed is None
    assert "more seeds" in str(reason)
    assert stats.gap_closed(Summary(0, None, None), baseline, baseline)[0] is None


def test_the_noise_of_several_teacher_runs_counts() -> None:
    baseline = stats.summarize([29.0, 30.0, 31.0])
    noisy_teacher = stats.summarize([25.0, 32.0, 39.0])
    assert stats.gap_closed(stats.summarize([31.0]), baseline, noisy_teacher)[0] is None


@given(st.dictionaries(st.integers(0, 50), st.tuples(ap, ap), min_size=3, max_size=12))
def test_p_of_pairs_is_that_of_scipy(pairs: dict[int, tuple[float, float]]) -> None:
    a, b = {s: v[0] for s, v in pairs.items()}, {s: v[1] for s, v in pairs.items()}
    values = [a[seed] - b[seed] for seed in sorted(pairs)]
    if float(scipy_stats.sem(values)) > 1e-6:
        expected = scipy_stats.ttest_1samp(values, 0.0).pvalue
        assert stats.compare(a, b).p == pytest.approx(expected, abs=1e-9)


def test_p_of_unpaired_seeds_is_that_of_welch() -> None:
    a, b = {0: 31.0, 1: 33.0, 2: 32.5}, {5: 30.0, 6: 29.0, 7: 30.5, 8: 29.5}
    expected = scipy_stats.ttest_ind([*a.values()], [*b.values()], equal_var=False).pvalue
    assert stats.compare(a, b).p == pytest.approx(expected)


def test_equal_results_are_no_evidence_and_constant_differences_are_all_there_is() -> None:
    same = {0: 1.0, 1: 2.0, 2: 3.0}
    assert stats.compare(same, same).p == 1.0
    assert stats.compare({seed: value + 1 for seed, value in same.items()}, same).p == 0.0
    assert stats.compare({0: 9.0}, {0: 1.0}).p is None


def _with_p(*ps: float | None) -> list[stats.Difference]:
    verdict = {True: "better", False: "no clear difference", None: "not enough seeds"}
    return [
        stats.Difference(True, 3, (), 1.0, None, None, verdict[None if p is None else p < 0.05], p)  # type: ignore[arg-type]
        for p in ps
    ]


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.04: times 3, 2, 1 are 0.03, 0.04, 0.04
    found = stats.corrected(_with_p(0.04, 0.01, 0.02))
    assert [one.adjusted for one in found] == pytest.approx([0.04, 0.03, 0.04])
    assert [one.verdict for one in found] == ["better"] * 3
    # 0.03 * 3 = 0.09, and none behind it is smaller: 0.04 * 2 = 0.08 becomes 0.09
    found = stats.corrected(_with_p(0.03, 0.04, 0.9, None))
    assert [one.adjusted for one in found] == [pytest.approx(0.09), pytest.approx(0.09), pytest.approx(0.9), None]
    assert [one.verdict for one in found] == ["no clear difference"] * 3 + ["not enough seeds"]


def test_two_comparisons_are_not_corrected() -> None:
    found = stats.corrected(_with_p(0.04, 0.01, None))
    assert [one.adjusted for one in found] == [None] * 3
    assert found[0].verdict == "better"


@given(st.lists(st.floats(0, 1), min_size=3, max_size=9))
def test_holm_never_lowers_a_p_and_keeps_their_order(ps: list[float]) -> None:
    adjusted = [one.adjusted or 0.0 for one in stats.corrected(_with_p(*ps))]
    assert all(after >= before and after <= 1 for before, after in zip(ps, adjusted, strict=True))
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert sorted(adjusted) == [adjusted[i] for i in order]


def test_the_interval_of_a_mean_is_that_of_scipy() -> None:
    low, high = scipy_stats.t.interval(0.95, 3, loc=2.5, scale=scipy_stats.sem([1.0, 2.0, 3.0, 4.0]))
    assert stats.summarize([1.0, 2.0, 3.0, 4.0]).interval == pytest.approx((low, high))
    assert stats.summarize([1.0, 2.0]).interval is None


def test_the_interval_of_the_closed_gap() -> None:
    baseline, teacher = {0: 30.0, 1: 31.0, 2: 32.0}, stats.summarize([40.0])
    half = {seed: (value + 40.0) / 2 for seed, value in baseline.items()}
    assert stats.gap_interval(half, baseline, teacher) == pytest.approx((0.5, 0.5))
    noisy = {0: 34.0, 1: 34.0, 2: 37.0}
    closed, _ = stats.gap_closed(stats.summarize([*noisy.values()]), stats.summarize([*baseline.values()]), teacher)
    found = stats.gap_interval(noisy, baseline, teacher)
    assert found is not None
    assert found[0] < (closed or 0.0) < found[1]
    assert found == stats.gap_interval(noisy, baseline, teacher)  # the same digits every time
    assert stats.gap_interval({0: 34.0, 1: 34.0}, baseline, teacher) is None
    assert stats.gap_interval(noisy, baseline, stats.summarize([1.0])) is None
