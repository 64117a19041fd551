"""Specs that went wrong: valid ones with a few random changes, the same for the same seed.

Changes are of every kind: other types, numbers out of all bounds, missing and unknown keys, deep nesting, odd text,
parts of the spec in the wrong place, and mild ones that may well be valid.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from bcd.spec import JobSpec

Place = tuple[Any, Any]  # a container and a key or index in it

ODD: tuple[Any, ...] = (
    None, True, False, "", " ", 0, -1, 1, 2, 0.5, -0.5, 1.5, 1e308, -1e308, 5e-324, 2**31, 2**31 - 1, 2**63, 2**64,
    10**30, 10**400, float("nan"), float("inf"), -0.0, [], {}, [[]], [{}], {"type": "nope"}, {"": ""},
    "x" * 300, "x" * 50_000, "\0", "\ud800", "\U0001f9ea", "\u202e", "e\u0301", "\uffff", "a\nb\r\nc", "1", "1e3",
    "nan", "../../etc/passwd", "/dev/zero", "'; DROP TABLE jobs; --", "{{7*7}}", "${jndi:ldap://x}", "__class__",
    "%s%n", "\\", "bckd", "gfl", "tiny", "digits-scenes-v1", list(range(1000)), ["x"] * 100,
    {str(i): i for i in range(300)},
)  # fmt: skip


def mutant(seed: int, specs: Sequence[dict[str, Any]]) -> Any:
    """One of the specs with one to four changes."""
    rng = random.Random(seed)
    root = {"spec": deepcopy(rng.choice(specs))}
    for _ in range(rng.randint(1, 4)):
        place = rng.choice(_places(root))
        rng.choice(CHANGES)(rng, root, place)
    return root["spec"]


def as_text(seed: int, value: Any) -> bytes:
    """The value as JSON, in one of twenty cases broken as text. NaN and infinity are written as Python writes them."""
    rng = random.Random(-seed - 1)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if rng.random() > 0.05:
        return text
    cut = rng.randrange(len(text) + 1)
    return rng.choice(
        [text[:cut], text[:cut] + bytes([rng.randrange(256)]) + text[cut:], text + text, b"[" * 2000 + text]
    )


def _places(value: Any) -> list[Place]:
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    found: list[Place] = [(value, key) for key, _ in items]
    for _, inner in items:
        if isinstance(inner, dict | list):
            found += _places(inner)
    return found


# ------------------------------------------------------------------------------------------------------ changes


def _replace(rng: random.Random, root: Any, place: Place) -> None:
    container, key = place
    container[key] = deepcopy(rng.choice(ODD))


def _drop(rng: random.Random, root: Any, place: Place) -> None:
    container, key = place
    if container is not root:
        del container[key]


def _add(rng: random.Random, root: Any, place: Place) -> None:
    container, _ = place
    if isinstance(container, dict) and container is not root:
        name = rng.choice(["colour", "", "type", "a/b", "a~b", "\U0001f9ea", "__proto__", "x" * 500, *_KEYS])
        container[name] = deepcopy(rng.choice(ODD))
    elif isinstance(container, list):
        container.append(deepcopy(rng.choice([*ODD, *container])))


def _rename(rng: random.Random, root: Any, place: Place) -> None:
    container, key = place
    if isinstance(container, dict) and container is not root:
        container[rng.choice([str(key).upper(), f"{key} ", f"_{key}", *_KEYS])] = container.pop(key)


def _move(rng: random.Random, root: Any, place: Place) -> None:
    container, key = place
    other, name = rng.choice(_places(root))
    container[key] = deepcopy(other[name])


def _nest(rng: random.Random, root: Any, place: Place) -> None:
    container, key = place
    for _ in range(rng.choice([1, 2, 30, 70, 400])):
        container[key] = [container[key]] if rng.random() < 0.5 else {"type": container[key]}


def _scale(rng: random.Random, root: Any, place: Place) -> None:
    """A number near the one that was there, or far from it."""
    container, key = place
    value = container[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        factor = rng.choice([0, 0.5, 2, 3, 10, -1, 1e6])
        container[key] = int(value * factor) if isinstance(value, int) and rng.random() < 0.8 else value * factor


def _choose(rng: random.Random, root: Any, place: Place) -> None:
    """Another word of the spec's language."""
    container, key = place
    if isinstance(container[key], str | bool):
        container[key] = rng.choice(_WORDS)


CHANGES: tuple[Callable[[random.Random, Any, Place], None], ...] = (
    _replace, _replace, _drop, _add, _rename, _move, _nest, _scale, _scale, _choose,
)  # fmt: skip


def _words(schema: Any, keys: set[str], words: set[str]) -> None:
    if isinstance(schema, dict):
        keys |= set(schema.get("properties", {}))
        words |= {word for word in schema.get("enum", ()) if isinstance(word, str)}
        for inner in schema.values():
            _words(inner, keys, words)
    elif isinstance(schema, list):
        for inner in schema:
            _words(inner, keys, words)


_found: tuple[set[str], set[str]] = (set(), set())
_words(JobSpec.model_json_schema(), *_found)
_KEYS, _WORDS = (sorted(one) for one in _found)
