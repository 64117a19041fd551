"""Spec files as a person gives them: `--set` changes applied, and paths made absolute against this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bcd.spec import JobSpec, SpecError, parse_spec

SET_HELP = "Change a value: KEY.PATH=VALUE, such as schedule.steps=300 or methods.0.loc_weight=2. Repeatable."


def read_spec(
    path: Path,
    changes: list[str] | None = None,
    *,
    seed: int | None = None,
    data_root: Path | None = None,
    teacher: Path | None = None,
) -> JobSpec:
    """Read, change and check a spec file. Raises `SpecError` for the file, a change or the result."""
    values = read_values(path)
    for change in changes or []:
        apply_change(values, change)
    if seed is not None:
        values["seed"] = seed
    if data_root is not None and isinstance(values.get("data"), dict):
        values["data"]["root"] = str(data_root)
    if teacher is not None:
        # Renamed classes, the cache and the look before the run stay as the file has them.
        given = values.get("teacher")
        kept = {key: value for key, value in given.items() if key != "job"} if isinstance(given, dict) else {}
        values["teacher"] = {**kept, "path": str(teacher)}
    make_absolute(values)
    return parse_spec(values)


class _Loader(yaml.SafeLoader):
    """YAML in which `on` and `off` are words, as in YAML 1.2: keys such as `teacher.preflight` take them."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in found if not (first in "oO" and tag.endswith(":bool"))]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _load(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def read_values(path: Path) -> dict[str, Any]:
    """The plain values of a YAML or JSON file. Raises `SpecError` unless it holds a mapping."""
    try:
        values = _load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError([("", f"no such spec file: {path}")]) from None
    except OSError as error:
        raise SpecError([("", f"cannot read {path}: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise SpecError([("", f"cannot read {path}: {error}")]) from None
    except yaml.YAMLError as error:
        raise SpecError([("", f"{path} is not valid YAML: {error}")]) from None
    if not isinstance(values, dict):
        raise SpecError([("", f"{path} holds no spec: the top level must be keys with values")])
    return values


def apply_change(values: dict[str, Any], change: str) -> None:
    """Apply `key.path=value` in place; numbers in the path index lists; the value is read as YAML.

    Keys that are missing on the way are made, so that a whole block can be set; whether they are known is for the
    spec to say. Raises `SpecError`.
    """
    place, equals, text = change.partition("=")
    if not equals or not all(place.strip().split(".")):
        raise SpecError([("", f"--set {change!r} is not KEY.PATH=VALUE, such as schedule.steps=300")])
    try:
        value = _load(text)
    except yaml.YAMLError:
        raise SpecError([("", f"--set {change!r}: the value is not valid YAML; quote it")]) from None
    put(values, place.strip(), value, where=f"--set {change!r}")


def put(values: dict[str, Any], place: str, value: Any, *, where: str) -> None:
    """Set the value at `key.path` in place, as `apply_change` does; `where` begins the message of a fault."""
    keys = place.split(".")
    here: Any = values
    for i, key in enumerate(keys):
        last = i == len(keys) - 1
        if isinstance(here, list):
            if not (key.isdigit() and int(key) < len(here)):
                at = ".".join(keys[:i])
                raise SpecError([("", f"{where}: {at} is a list of {len(here)}; use {at}.0 and so on")])
            if last:
                here[int(key)] = value
            else:
                here = here[int(key)]
        elif isinstance(here, dict):
            if last:
                here[key] = value
            else:
                if here.get(key) is None:
                    here[key] = {}
                here = here[key]
        else:
            raise SpecError([("", f"{where}: {'.'.join(keys[:i])} is a plain value, it has no {key!r}")])


def make_absolute(values: dict[str, Any]) -> None:
    """Make `data.root` and `teacher.path` absolute in place: the worker runs in another folder."""
    for block, key in (("data", "root"), ("teacher", "path")):
        inner = values.get(block)
        if isinstance(inner, dict) and isinstance(inner.get(key), str):
            inner[key] = str(Path(inner[key]).expanduser().absolute())
