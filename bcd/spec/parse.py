"""From what a person wrote to a checked spec, or to one line for each fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bcd.spec.base import SpecError
from bcd.spec.job import JobSpec


def parse_spec(value: Any) -> JobSpec:
    """Check a spec given as plain values.

    Raises `SpecError` with a JSON pointer (RFC 6901) into the spec for each fault.
    """
    try:
        return JobSpec.model_validate(value)
    except ValidationError as error:
        raise SpecError([(pointer_of(value, e["loc"]), message_of(dict(e))) for e in error.errors()]) from None


def load_spec(path: str | Path) -> JobSpec:
    """Read and check a spec file (YAML or JSON). Raises `SpecError`; the pointer is empty for file faults."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError([("", f"no such spec file: {path}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([("", f"cannot read {path}: {error}")]) from None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError([("", f"{path} is not valid YAML: {error}")]) from None
    return parse_spec(value)


def pointer_of(value: Any, loc: tuple[int | str, ...]) -> str:
    """A JSON pointer into what the user sent: pydantic's union tags are not part of it."""
    parts: list[str] = []
    for part in loc:
        inside = isinstance(value, dict | list | tuple)
        known = (isinstance(value, dict) and part in value) or (
            isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        )
        tag = isinstance(value, dict) and not known and value.get("type") == part
        if tag:
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
        value = value[part] if inside and known else None
    return "".join("/" + part for part in parts)


def message_of(error: dict[str, Any]) -> str:
    kind, ctx = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key; remove it or check its spelling"
    if kind == "missing":
        return "required, but missing"
    if kind == "union_tag_invalid":
        return f"unknown type {ctx.get('tag')!r}; known: {ctx.get('expected_tags')}"
    if kind == "union_tag_not_found":
        return "`type` is missing"
    if kind == "value_error":
        return str(ctx.get("error", error["msg"]))
    message = error["msg"][:1].lower() + error["msg"][1:]
    given = error.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool) and len(repr(given)) <= 80 else ""
    return f"{message}{shown}"
