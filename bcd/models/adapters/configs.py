"""MMDetection's configuration, which its checkpoints carry as Python text, read without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any


def parse_config(text: str) -> dict[str, Any]:
    """The assignments of a configuration: literals, lists, tuples and `dict(...)` calls; anything else becomes None.

    Text that is no Python gives an empty result: the caller then says what it had to assume.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    values: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    values[target.id] = _value(statement.value, values)
    return values


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_value(item, known) for item in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand, known)
        return -number if isinstance(number, int | float) else None
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_text(_value(key, known)): _value(value, known) for key, value in pairs if key is not None}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {keyword.arg: _value(keyword.value, known) for keyword in node.keywords if keyword.arg is not None}
    return None


def _text(key: Any) -> str:
    return str(key)


def find(config: Any, kinds: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """Every dictionary inside, at any depth, whose `type` is one of `kinds`."""
    if isinstance(config, Mapping):
        if config.get("type") in kinds:
            yield config
        for value in config.values():
            yield from find(value, kinds)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from find(value, kinds)
