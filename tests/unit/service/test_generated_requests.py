"""Every published route with generated requests, well-formed and malformed ones: no answer is a 5xx, all are JSON.

Requests come from the published contract (schemathesis). `BCD_GENERATED=200` makes so many for each route in place of
a few.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from starlette.testclient import TestClient

from tests.helpers.api import finish, make_client, make_settings, start, submit
from tests.helpers.openapi import published

COUNT = int(os.environ.get("BCD_GENERATED", "4"))
# Streams have no end; what they are given is judged by the same code before they begin.
STREAMS = {"/api/v1/events", "/api/v1/jobs/{job_id}/logs/stream"}
FIELDS = ("method", "url", "headers", "params", "data", "json", "cookies", "files")
SCHEMA = schemathesis.openapi.from_dict(published())
OPERATIONS = {
    f"{one.ok().method.upper()} {one.ok().path}": one.ok()
    for one in SCHEMA.get_all_operations()
    if one.ok().path not in STREAMS
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The API with jobs in several states, and ids that exist."""
    made = make_settings(
        tmp_path_factory.mktemp("generated"), rate_limit="off", rate_limit_anonymous="off", rate_limit_failures="off"
    )
    with make_client(made) as client:
        known = {"job_id": [finish(client, None, 30.0), start(client)[0]["id"], submit(client)["id"]]}
        artifacts = client.get(f"/api/v1/jobs/{known['job_id'][0]}/artifacts").json()["items"]
        yield client, {**known, "artifact_id": [one["id"] for one in artifacts], "project_id": ["default"]}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_no_request_makes_the_service_fail(api: tuple[TestClient, dict[str, list[str]]], name: str, mode: Any) -> None:
    client, known = api
    operation = OPERATIONS[name]
    answers: list[int] = []

    @settings(
        max_examples=COUNT, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        # every other request about something that is there: ids that nobody has get no further than 404
        if len(answers) % 2 and isinstance(case.path_parameters, dict):
            for key in case.path_parameters.keys() & known.keys():
                case.path_parameters[key] = known[key][len(answers) % len(known[key])]
        answer = send(client, case)
        answers.append(answer.status_code)
        assert answer.status_code < 500, f"{case.as_curl_command()}\n{answer.text}"
        if answer.status_code >= 400 and case.method.upper() != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json", answer.text

    try:
        ask()
    except schemathesis.errors.SchemathesisError:
        assert mode is GenerationMode.NEGATIVE, "no fitting request can be made from the contract"
    except Exception as error:
        # a route that takes nothing cannot be asked wrongly
        if mode is not GenerationMode.NEGATIVE or type(error).__name__ not in ("Unsatisfiable", "SkipTest", "Skipped"):
            raise


def send(client: TestClient, case: Case) -> Any:
    """The request of a case, as it is, with the token that may do everything."""
    given = case.as_transport_kwargs(base_url="http://testserver")
    own = {key: value for key, value in dict(given.get("headers") or {}).items() if key.lower() != "authorization"}
    given["headers"] = {**own, "Authorization": client.headers["Authorization"]}
    try:
        request = requests.Request(**{k: v for k, v in given.items() if k in FIELDS}).prepare()
    except (ValueError, UnicodeError):  # no HTTP client can send this
        return client.get("/healthz")
    body = request.body if isinstance(request.body, bytes) else (request.body or "").encode("utf-8", "surrogateescape")
    try:
        return client.request(str(request.method), str(request.url), content=body, headers=dict(request.headers))
    except Exception as error:
        if not isinstance(error, UnicodeError | ValueError) and type(error).__name__ != "InvalidURL":
            raise
        return client.get("/healthz")
