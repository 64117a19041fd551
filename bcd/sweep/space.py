"""The search space: fields of a job spec by their path, each with the values that it may take.

A trial's parameters are plain words: {path: value}, where a value of a choice stands under its label, if it has one.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, StringConstraints, model_validator

from bcd.spec.base import Positive, SpecError, Strict

Path = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", max_length=200)]
Word = str | int | float | bool | None  # what a parameter is written as
Params = dict[str, Word]


class _Parameter(Strict):
    when: dict[Path, Annotated[tuple[Word, ...], Field(min_length=1, max_length=100)]] | None = Field(
        None,
        description="Only where these other parameters, which must be choices, have one of these values (or labels): "
        "`when: {methods: [bckd]}`.",
    )


class Choice(_Parameter):
    """One of some values: numbers, words, or whole blocks of the spec such as a list of methods."""

    type: Literal["choice"]
    values: Annotated[tuple[JsonValue, ...], Field(min_length=1, max_length=100)] = Field(description="What to try.")
    labels: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(max_length=100)] | None = (
        Field(None, description="A name for each value, needed where values are blocks.")
    )

    @model_validator(mode="after")
    def _named(self) -> Choice:
        if self.labels is not None and len(self.labels) != len(self.values):
            raise ValueError(f"{len(self.values)} values need as many labels, not {len(self.labels)}")
        if len({json.dumps(word) for word in self.words}) < len(self.values):
            raise ValueError("the same value or label comes twice; name each once")
        return self

    @property
    def words(self) -> tuple[Word, ...]:
        """How each value is written among a trial's parameters."""
        if self.labels is not None:
            return self.labels
        return tuple(
            json.dumps(value, separators=(",", ":")) if isinstance(value, list | dict) else value
            for value in self.values
        )

    def value_of(self, word: Word) -> Any:
        """The value that goes into the spec. Raises `ValueError` for a word that is none of this choice."""
        return self.values[self.place_of(word)]

    def place_of(self, word: Word) -> int:
        """Which of the values a word names; 1 and true are two. Raises `ValueError`."""
        for place, known in enumerate(self.words):
            if known == word and isinstance(known, bool) == isinstance(word, bool):
                return place
        raise ValueError(f"{word!r} is none of the values")

    def examples(self) -> tuple[Word, ...]:
        return self.words


class _Range(_Parameter):
    @model_validator(mode="after")
    def _ordered(self) -> Any:
        low, high = getattr(self, "low"), getattr(self, "high")  # noqa: B009 (fields of the subclasses)
        if low >= high:
            raise ValueError(f"low ({low:g}) must be below high ({high:g})")
        step = getattr(self, "step", None)
        if step is not None and step > high - low:
            raise ValueError(f"step ({step:g}) is larger than the range from {low:g} to {high:g}")
        return self

    def value_of(self, word: Word) -> Any:
        return word

    def examples(self) -> tuple[Word, ...]:
        """Values that show whether the spec takes the range: its ends."""
        return getattr(self, "low"), getattr(self, "high")  # noqa: B009


class Uniform(_Range):
    """Any number of a range, both ends included; with `step` only low, low + step, and so on."""

    type: Literal["uniform"]
    low: float
    high: float
    step: Positive | None = None

    def steps(self) -> tuple[float, ...] | None:
        """The values of a range in steps; None where there are endlessly many."""
        if self.step is None:
            return None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(float(f"{self.low + i * self.step:.12g}") for i in range(count))


class LogUniform(_Range):
    """Any number of a range, each factor equally likely: for weights and learning rates."""

    type: Literal["loguniform"]
    low: Positive
    high: Positive

    def steps(self) -> None:
        return None


class Integer(_Range):
    """A whole number of a range, both ends included."""

    type: Literal["integer"]
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1
    log: bool = Field(False, description="Each factor equally likely; not with a step.")

    @model_validator(mode="after")
    def _log(self) -> Integer:
        if self.log and (self.step != 1 or self.low < 1):
            raise ValueError("log needs low of 1 at least and no step")
        return self

    def steps(self) -> tuple[int, ...] | None:
        return tuple(range(self.low, self.high + 1, self.step))


Parameter = Annotated[Choice | Uniform | LogUniform | Integer, Field(discriminator="type")]
Space = dict[Path, Parameter]


def active(parameter: Parameter, params: Mapping[str, Word]) -> bool:
    """Whether a parameter takes part, given those that it depends on."""
    return all(path in params and params[path] in words for path, words in (parameter.when or {}).items())


def in_order(space: Space) -> list[str]:
    """Paths such that each comes after what its `when` names. Raises `SpecError` where they wait for each other."""
    left, order = dict(space), list[str]()
    while left:
        ready = [path for path, one in left.items() if not set(one.when or {}) & set(left)]
        if not ready:
            raise SpecError([(pointer(path) + "/when", "these parameters wait for each other") for path in left])
        order += ready
        for path in ready:
            del left[path]
    return order


def trial_values(base: Mapping[str, Any], space: Space, params: Mapping[str, Word]) -> dict[str, Any]:
    """The plain job spec of a trial: `base` (canonical) with the parameters put in, whole blocks before their fields.

    Raises `SpecError` with a pointer into the sweep for a path that the spec does not have.
    """
    values: dict[str, Any] = copy.deepcopy(dict(base))
    for path in sorted(params, key=lambda path: (path.count("."), path)):
        _put(values, path, copy.deepcopy(space[path].value_of(params[path])))
    return values


def pointer(path: str) -> str:
    """Where a parameter is in the sweep spec."""
    return f"/space/{path}"


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    keys = path.split(".")
    here: Any = values
    for i, key in enumerate(keys):
        at = ".".join(keys[:i]) or "the spec"
        if isinstance(here, list):
            if not key.isdigit() or int(key) >= len(here):
                raise SpecError([(pointer(path), f"{at} is a list of {len(here)}; there is no {at}.{key} in it")])
            place: Any = int(key)
        elif isinstance(here, dict):
            place = key
        else:
            raise SpecError([(pointer(path), f"{at} is a plain value, it has no {key!r}")])
        if i == len(keys) - 1:
            here[place] = value
        elif isinstance(here, dict) and key not in here:
            raise SpecError([(pointer(path), f"{at} has no {key!r}")])
        else:
            here = here[place]
