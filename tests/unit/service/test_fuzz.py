"""Whatever is submitted: a job, or a problem that points into what was sent. Never a fault of the service.

`BCD_FUZZ=5000` sends so many specs in place of a few hundred.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from bcd.spec import parse_spec
from service.settings import Settings
from tests.helpers.api import distilled_spec, submit, tiny_spec
from tests.helpers.mutants import as_text, mutant

COUNT = int(os.environ.get("BCD_FUZZ", "300"))
RECIPES = Path(__file__).parents[3] / "recipes"
METHODS = ("bckd", "softmax_kd", "sigmoid_kd", "ld", "crosskd", "pkd", "fgd", "fitnet", "fine_grained", "gi")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, rate_limit="off")


def specs(teacher: str) -> list[dict[str, Any]]:
    """Valid specs of every kind; those that need a teacher's job name this one."""
    out = [tiny_spec(), *({**distilled_spec(teacher), "methods": [{"type": kind}]} for kind in METHODS)]
    for path in sorted(RECIPES.rglob("*.yaml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(spec, dict) and "student" in spec:
            if (spec.get("teacher") or {}).get("job"):
                spec["teacher"]["job"] = teacher
            out.append(spec)
    full = parse_spec(out[1]).canonical()  # every key of the language that has a default
    return [*out, full, full]


def resolves(value: Any, pointer: str) -> bool:
    """Whether a JSON pointer (RFC 6901), or its parent, leads to something in this value."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for i, part in enumerate(parts):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return i == len(parts) - 1
    return True


def test_mutated_bodies_of_other_requests_are_no_fault_of_the_service_either(client: TestClient) -> None:
    job_id = submit(client)["id"]
    url = f"/api/v1/jobs/{job_id}"
    patches: list[dict[str, Any]] = [tiny_spec(), {"seed": 1}, {"data": None}]
    change = {"priority": 1, "tags": ["a", "b"], "group": "g"}
    batch = {"verb": "change", "ids": [job_id, "x"], "priority": 1, "add_tags": ["a"], "remove_tags": ["b"]}
    batches = [batch, {"verb": "cancel", "ids": [job_id]}, {"verb": "retry", "ids": [job_id], "from_start": True}]
    for seed in range(COUNT // 3):
        answers = (
            client.post(f"{url}/clone", content=as_text(seed, mutant(seed, patches))),
            client.patch(url, content=as_text(seed, mutant(seed, [change]))),
            client.post("/api/v1/jobs:batch", content=as_text(seed, mutant(seed, batches))),
        )
        for answer in answers:
            assert answer.status_code in (200, 201, 400, 409, 413, 422), f"seed {seed}: {answer.text[:300]}"


def test_a_pointer_resolves_where_its_parent_does() -> None:
    value = {"a": [{"b/c": 1}]}
    assert all(resolves(value, pointer) for pointer in ("", "/a", "/a/0/b~1c", "/x", "/a/7", "/a/0/x"))
    assert not any(resolves(value, pointer) for pointer in ("/x/y", "/a/7/b", "/a/0/b~1c/d/e"))


def test_mutated_specs_become_jobs_or_problems_that_point_into_them(client: TestClient) -> None:
    teacher = submit(client)["id"]
    valid, accepted, refused = specs(teacher), 0, 0
    for seed in range(COUNT):
        value = mutant(seed, valid)
        sent = as_text(seed, value)
        dry, made = client.post("/api/v1/jobs:validate", content=sent), client.post("/api/v1/jobs", content=sent)
        about = f"seed {seed}: {dry.status_code} {made.status_code} {made.text[:300]}"
        if made.status_code == 201:
            assert (dry.status_code, dry.json()["ok"]) == (200, True), about
            stored = made.json()["spec"]
            again = parse_spec(json.loads(json.dumps(stored)))
            assert (again.canonical(), again.digest()) == (stored, dry.json()["plan"]["digest"]), about
            accepted += 1
            continue
        assert made.status_code in (400, 413, 422), about
        problem = made.json()
        assert made.headers["content-type"] == "application/problem+json", about
        assert problem["detail"], about
        if made.status_code == 422:
            assert (dry.status_code, dry.json()["ok"]) == (200, False), about
            assert dry.json()["errors"] == problem["errors"] != [], about
            read = json.loads(sent)
            assert all(resolves(read, error["pointer"]) for error in problem["errors"]), about
            assert all(error["detail"] for error in problem["errors"]), about
        else:
            assert dry.status_code == made.status_code, about
        refused += 1
    assert min(accepted, refused) > COUNT / 20  # both kinds are met
