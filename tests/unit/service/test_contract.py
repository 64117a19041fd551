"""The API's contract changes only on purpose: what the service publishes is what docs/openapi.json says."""

from __future__ import annotations

import json
from typing import Any

from tests.helpers.openapi import FILE, published


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """The places at which two documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = [f"{at}/{key} is gone" for key in sorted(old.keys() - new.keys())]
        found += [f"{at}/{key} is new" for key in sorted(new.keys() - old.keys())]
        for key in sorted(old.keys() & new.keys()):
            found += differences(old[key], new[key], f"{at}/{key}")
        return found
    return [] if old == new else [f"{at} is another"]


def test_the_published_contract_is_the_one_on_file() -> None:
    found = differences(json.loads(FILE.read_text(encoding="utf-8")), json.loads(json.dumps(published())))
    assert not found, "the API has changed; if on purpose, run `make openapi` and commit:\n" + "\n".join(found[:40])


def test_the_comparison_sees_what_is_gone_new_or_another() -> None:
    old = {"paths": {"/a": {"get": 1}, "/b": {}}}
    assert differences(old, {"paths": {"/a": {"get": 2}, "/c": {}}}) == [
        "/paths//b is gone", "/paths//c is new", "/paths//a/get is another"
    ]  # fmt: skip
