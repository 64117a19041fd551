"""Which trials are better: by one objective in order, by several along their Pareto front. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from bcd.sweep import SweepSpec

Values = Sequence[float | None] | None


def best(spec: SweepSpec, found: Sequence[tuple[int, Values]]) -> list[int]:
    """Numbers of the trials that have all their values, the best first; equal ones by number.

    With several objectives the Pareto front comes first, then what is dominated; each by the first objective.
    """
    whole = [(number, signed(spec, values)) for number, values in found if complete(values)]
    first = {number: i for i, number in enumerate(front(spec, found))} if len(spec.objectives) > 1 else {}
    ranked = sorted(whole, key=lambda one: (one[0] not in first, -one[1][0], one[0]))
    return [number for number, _ in ranked]


def front(spec: SweepSpec, found: Sequence[tuple[int, Values]]) -> list[int]:
    """Numbers of the trials that no other one beats in one objective without losing in another."""
    whole = [(number, signed(spec, values)) for number, values in found if complete(values)]
    kept = [
        (number, mine)
        for number, mine in whole
        if not any(all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for _, other in whole)
    ]
    return [number for number, _ in sorted(kept, key=lambda one: (-one[1][0], one[0]))]


def complete(values: Values) -> bool:
    return values is not None and all(value is not None for value in values)


def signed(spec: SweepSpec, values: Values) -> tuple[float, ...]:
    """Values such that more is better."""
    assert values is not None
    return tuple(
        (value or 0.0) if objective.larger_is_better else -(value or 0.0)
        for value, objective in zip(values, spec.objectives, strict=True)
    )
