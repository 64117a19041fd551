"""Every combination of a space whose parameters have countable values, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator

from bcd.sweep.space import Choice, Params, Space, Word, active, in_order


def countable(space: Space) -> list[str]:
    """The paths that stand in the way of a grid: ranges without steps."""
    return [path for path, one in space.items() if not isinstance(one, Choice) and one.steps() is None]


def grid(space: Space) -> Iterator[Params]:
    """All combinations; a parameter whose `when` does not hold is left out. The last one varies fastest."""
    yield from _below(space, in_order(space), {})


def grid_size(space: Space, *, most: int = 100_000) -> int:
    """How many there are, counted up to `most`."""
    count = 0
    for _ in grid(space):
        count += 1
        if count >= most:
            break
    return count


def _below(space: Space, left: list[str], so_far: Params) -> Iterator[Params]:
    if not left:
        yield dict(so_far)
        return
    path, rest = left[0], left[1:]
    if not active(space[path], so_far):
        yield from _below(space, rest, so_far)
        return
    for word in _words(space, path):
        yield from _below(space, rest, {**so_far, path: word})


def _words(space: Space, path: str) -> tuple[Word, ...]:
    parameter = space[path]
    if isinstance(parameter, Choice):
        return parameter.words
    return parameter.steps() or ()
