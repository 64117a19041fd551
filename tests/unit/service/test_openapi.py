"""The published contract is true: the spec is the body of a submission, errors are problem documents."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

from tests.helpers.api import TINY_SPEC


def _refs(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_refs, value.values()))
    return set().union(*map(_refs, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert _refs(document) <= known
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_a_submission_is_documented_with_the_job_spec(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    submit = document["paths"]["/api/v1/jobs"]["post"]
    assert submit["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/JobSpec")
    assert set(document["components"]["schemas"]["JobSpec"]["properties"]) >= set(TINY_SPEC)
    assert set(submit["responses"]) == {"200", "201", "default"}


def test_the_documented_problem_is_what_is_answered(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    problem = document["components"]["schemas"]["Problem"]
    answer = client.post("/api/v1/jobs", json={**TINY_SPEC, "seed": -1})
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(problem["required"]) <= set(body) <= set(problem["properties"])
    assert body["errors"][0]["pointer"] == "/seed"
