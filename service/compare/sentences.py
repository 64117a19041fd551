"""A comparison in words that claim no more than the numbers do."""

from __future__ import annotations

from service.compare.stats import ENOUGH, Difference


def sentence(label: str, baseline: str, difference: Difference, closed: float | None) -> str:
    """One or two sentences for people; AP in points."""
    if difference.verdict == "not enough seeds":
        return _too_few(label, baseline, difference)
    seeds = f"{difference.n} paired seeds" if difference.paired else f"{difference.n} or more unpaired seeds each"
    low, high, mean = difference.low or 0.0, difference.high or 0.0, difference.mean or 0.0
    interval = f"95 % interval {low:+.1f} to {high:+.1f}, {seeds}{_adjusted(difference.adjusted)}"
    if difference.verdict == "no clear difference":
        return f"No clear difference between {label} and {baseline}: {mean:+.1f} AP on average ({interval})."
    text = f"{label} is {difference.verdict} than {baseline} by {abs(mean):.1f} AP on average ({interval})."
    if closed is not None and difference.verdict == "better":
        text += f" It closes {100 * closed:.0f} % of the gap to the teacher."
    return text


def _adjusted(p: float | None) -> str:
    if p is None:
        return ""
    return f", p {'below 0.001' if p < 0.001 else f'= {p:.2g}'} after Holm's correction"


def _too_few(label: str, baseline: str, difference: Difference) -> str:
    have = f"{difference.n} seed" + ("" if difference.n == 1 else "s")
    common = " in common" if difference.paired else ""
    so_far = "" if difference.mean is None else f" So far {label} is {difference.mean:+.1f} AP from {baseline}."
    return f"Not enough seeds to tell: {have}{common}, at least {ENOUGH} are needed.{so_far}"
