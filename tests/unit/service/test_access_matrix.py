"""Every route with every kind of caller. A route without a rule here fails the test: decide who may call it.

A rule says what good callers get; those who are not let in (no token, a revoked or expired one, a disabled user, the
token of an attempt) get 401 everywhere but on open routes. `OK` is any answer that is no refusal: 2xx, 409, 422, ...
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import select
from starlette.testclient import TestClient

from service.models import Artifact, Manifest, Token, View, Webhook
from service.settings import Settings
from service.tables.manifest import parse_manifest
from tests.helpers.api import (
    FakeWorker,
    bearer,
    make_client,
    make_project,
    make_token,
    make_user,
    start,
    submit,
    tiny_spec,
    tiny_sweep,
)
from tests.helpers.pictures import Drawn, gallery_bytes, predictions_bytes, seen

OK = "ok"
GOOD = ("viewer", "editor", "project admin", "installation admin", "stranger", "reader")
SHUT_OUT = ("nobody", "revoked", "expired", "disabled", "attempt")


@dataclass(frozen=True)
class Rule:
    """What each good caller gets, and an example request."""

    viewer: int | str
    editor: int | str
    project_admin: int | str
    installation_admin: int | str
    stranger: int | str  # a member of another project
    reader: int | str  # the installation administrator with a token that may only read
    shut_out: int | str = 401
    attempt: int | str | None = None  # where an attempt's own token counts
    params: dict[str, str] = field(default_factory=dict)
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[TestClient], Any] | None = None

    def expected(self, caller: str) -> int | str:
        if caller == "attempt" and self.attempt is not None:
            return self.attempt
        return self.shut_out if caller in SHUT_OUT else getattr(self, caller.replace(" ", "_"))


def anybody(**more: Any) -> Rule:
    """Open to all, also without a token."""
    return Rule(OK, OK, OK, OK, OK, OK, shut_out=OK, **more)


def any_user(**more: Any) -> Rule:
    """Any good token; what is shown is narrowed to what it may see."""
    return Rule(OK, OK, OK, OK, OK, OK, **more)


def looks(**more: Any) -> Rule:
    """Reads a thing of a project."""
    return Rule(OK, OK, OK, OK, 404, OK, **more)


def changes(**more: Any) -> Rule:
    """Runs or changes a thing of a project."""
    return Rule(403, OK, OK, OK, 404, 403, **more)


def manages(**more: Any) -> Rule:
    """Changes a project itself."""
    return Rule(403, 403, OK, OK, 404, 403, **more)


def installation(**more: Any) -> Rule:
    """For administrators of the installation."""
    return Rule(403, 403, 403, OK, 403, 403, **more)


def attempt_only(**more: Any) -> Rule:
    return Rule(401, 401, 401, 401, 401, 401, attempt=OK, **more)


def driver_only(**more: Any) -> Rule:
    """Neither users nor attempts: each driver has a token of its own (`test_sweep_driver.py`)."""
    return Rule(401, 401, 401, 401, 401, 401, attempt=401, **more)


def _spare_is_member(client: TestClient) -> None:
    client.put("/api/v1/projects/ours/members/spare", json={"role": "viewer"})


def _there_is_a_webhook(client: TestClient) -> None:
    with client.app.state.db.write() as session:
        session.merge(
            Webhook(
                id="hook_1", project_id="ours", url="https://hooks.example.org/", states=["failed"], active=True,
                created_by="pam", created_at=1.0, event_id=0,
            )
        )  # fmt: skip


def _there_is_a_table(client: TestClient) -> None:
    with client.app.state.db.write() as session:
        session.merge(
            Manifest(
                id="table_1", project_id="ours", name="kept",
                content=parse_manifest({**TABLE, "name": "kept"}).model_dump(mode="json"),
                created_by="pam", created_at=1.0, updated_at=1.0,
            )
        )  # fmt: skip


def _there_is_a_view(client: TestClient) -> None:
    with client.app.state.db.write() as session:
        session.merge(View(id="view_1", name="v", address="/jobs", created_by="pat", created_at=1.0))


TABLE = {
    "name": "made", "job": {k: v for k, v in tiny_spec().items() if k in ("data", "schedule")},
    "students": {"tiny": tiny_spec()["student"]}, "methods": {"labels": []}, "seeds": [0],
}  # fmt: skip
V1 = "/api/v1"
ORIGIN = {"Origin": "http://testserver"}
RULES: dict[str, Rule] = {
    "GET /": anybody(),
    "GET /docs": anybody(),
    "GET /openapi.json": anybody(),
    "GET /healthz": anybody(),
    "GET /readyz": anybody(),
    "GET /metrics": Rule(403, 403, 403, OK, 403, OK),
    f"GET {V1}/schema": any_user(),
    f"GET {V1}/cluster": any_user(),
    # jobs
    f"GET {V1}/jobs": any_user(),
    f"GET {V1}/jobs:count": any_user(),
    f"GET {V1}/filter-fields": any_user(),
    f"POST {V1}/series:query": any_user(body={"runs": ["job_x"], "metrics": ["AP"]}),
    f"POST {V1}/series:table": any_user(body={"runs": ["job_x"], "metrics": ["AP"]}),
    f"POST {V1}/jobs": changes(params={"project": "ours"}, body=tiny_spec()),
    f"POST {V1}/jobs:validate": looks(params={"project": "ours"}, body=tiny_spec()),
    f"POST {V1}/jobs:batch": any_user(body={"verb": "pause", "ids": ["{job_id}"]}),  # refusals: one for each job
    f"GET {V1}/jobs/{{job_id}}": looks(),
    f"PATCH {V1}/jobs/{{job_id}}": changes(body={"priority": 1}),
    f"POST {V1}/jobs/{{job_id}}/pause": changes(),
    f"POST {V1}/jobs/{{job_id}}/resume": changes(),
    f"POST {V1}/jobs/{{job_id}}/retry": changes(),
    f"POST {V1}/jobs/{{job_id}}/clone": changes(body={}),
    f"POST {V1}/jobs/{{job_id}}/cancel": changes(),
    f"GET {V1}/jobs/{{job_id}}/events": looks(),
    f"GET {V1}/jobs/{{job_id}}/metrics": looks(),
    f"GET {V1}/jobs/{{job_id}}/logs": looks(),
    f"GET {V1}/jobs/{{job_id}}/logs/stream": looks(),
    f"GET {V1}/jobs/{{job_id}}/evaluations": looks(),
    f"GET {V1}/jobs/{{job_id}}/artifacts": looks(),
    f"GET {V1}/artifacts/{{artifact_id}}/content": looks(),
    f"HEAD {V1}/artifacts/{{artifact_id}}/content": looks(),
    f"GET {V1}/jobs/{{job_id}}/mlflow": looks(),
    f"GET {V1}/events": looks(params={"job": "{job_id}"}),
    f"GET {V1}/compare": looks(params={"ids": "{job_id}"}),
    f"GET {V1}/compare/parts": looks(params={"ids": "{job_id}"}),
    f"GET {V1}/leaderboard": any_user(),
    f"GET {V1}/compare/costs": looks(params={"ids": "{job_id}"}),
    f"POST {V1}/tables": changes(params={"project": "ours"}, body=TABLE),
    f"GET {V1}/tables": any_user(),
    f"GET {V1}/tables/{{table_id}}": looks(before=_there_is_a_table),
    f"POST {V1}/tables/{{table_id}}/submit": changes(before=_there_is_a_table),
    f"DELETE {V1}/tables/{{table_id}}": changes(before=_there_is_a_table),
    f"POST {V1}/views": Rule(OK, OK, OK, OK, OK, 403, body={"name": "v", "address": "/jobs"}),
    f"GET {V1}/views": any_user(),
    f"GET {V1}/views/{{view_id}}": any_user(before=_there_is_a_view),
    f"DELETE {V1}/views/{{view_id}}": Rule(403, 403, 403, OK, 403, 403, before=_there_is_a_view),
    f"GET {V1}/models": any_user(),
    f"GET {V1}/datasets": any_user(),
    f"GET {V1}/jobs/{{job_id}}/data": looks(),
    f"GET {V1}/compare/images": looks(params={"first": "{job_id}"}),
    f"GET {V1}/compare/images/{{image}}": looks(params={"ids": "{job_id}"}),
    f"GET {V1}/jobs/{{job_id}}/images/{{image}}/content": looks(),
    # sweeps
    f"GET {V1}/sweep-schema": any_user(),
    f"GET {V1}/sweeps": any_user(),
    f"POST {V1}/sweeps": changes(params={"project": "ours"}, body=tiny_sweep()),
    f"POST {V1}/sweeps:validate": looks(params={"project": "ours"}, body=tiny_sweep()),
    f"GET {V1}/sweeps/{{sweep_id}}": looks(),
    f"GET {V1}/sweeps/{{sweep_id}}/trials": looks(),
    f"GET {V1}/sweeps/{{sweep_id}}/report": looks(),
    f"GET {V1}/sweeps/{{sweep_id}}/importance": looks(),
    f"GET {V1}/sweeps/{{sweep_id}}/best": looks(),
    f"POST {V1}/sweeps/{{sweep_id}}/pause": changes(),
    f"POST {V1}/sweeps/{{sweep_id}}/resume": changes(),
    f"POST {V1}/sweeps/{{sweep_id}}/stop": changes(),
    f"POST {V1}/sweeps/{{sweep_id}}/extend": changes(body={"budget": {"trials": 9}}),
    # drivers of sweeps
    f"GET {V1}/sweep-drivers/{{sweep_id}}/ticket": driver_only(),
    f"POST {V1}/sweep-drivers/{{sweep_id}}/beat": driver_only(),
    f"POST {V1}/sweep-drivers/{{sweep_id}}/trials": driver_only(body={"number": 1, "params": {}}),
    f"GET {V1}/sweep-drivers/{{sweep_id}}/trials/{{number}}": driver_only(),
    f"POST {V1}/sweep-drivers/{{sweep_id}}/trials/{{number}}/stop": driver_only(body={"why": "x"}),
    f"POST {V1}/sweep-drivers/{{sweep_id}}/end": driver_only(body={}),
    # webhooks
    f"GET {V1}/projects/{{project_id}}/webhooks": manages(),
    f"POST {V1}/projects/{{project_id}}/webhooks": manages(body={"url": "https://hooks.example.org/"}),
    f"PATCH {V1}/webhooks/{{webhook_id}}": manages(body={"active": True}, before=_there_is_a_webhook),
    f"DELETE {V1}/webhooks/{{webhook_id}}": manages(before=_there_is_a_webhook),
    f"POST {V1}/webhooks/{{webhook_id}}/test": manages(before=_there_is_a_webhook),
    f"GET {V1}/webhooks/{{webhook_id}}/deliveries": manages(before=_there_is_a_webhook),
    # workers
    f"GET {V1}/attempts/{{attempt_id}}/ticket": attempt_only(),
    f"POST {V1}/attempts/{{attempt_id}}/records": attempt_only(body={"epoch": 1, "records": []}),
    # access
    f"GET {V1}/me": any_user(),
    f"GET {V1}/projects": any_user(),
    f"POST {V1}/projects": installation(body={"id": "new"}),
    f"GET {V1}/projects/{{project_id}}": looks(),
    f"PATCH {V1}/projects/{{project_id}}": manages(body={"description": "x"}),
    f"GET {V1}/projects/{{project_id}}/members": manages(),
    f"PUT {V1}/projects/{{project_id}}/members/{{user}}": manages(body={"role": "viewer"}),
    f"DELETE {V1}/projects/{{project_id}}/members/{{user}}": manages(before=_spare_is_member),
    f"GET {V1}/users": installation(),
    f"POST {V1}/users": installation(body={"name": "new"}),
    f"PATCH {V1}/users/{{user}}": installation(body={"disabled": False}),
    f"GET {V1}/tokens": any_user(),
    f"POST {V1}/tokens": Rule(OK, OK, OK, OK, OK, 403, body={"name": "new", "scope": "read"}),
    f"DELETE {V1}/tokens/{{token_id}}": Rule(404, 404, 404, OK, 404, 404),
    f"GET {V1}/audit": Rule(403, 403, OK, OK, 403, 403),
    f"POST {V1}/session": Rule(401, 401, 401, 401, 401, 401, body={"token": "wrong"}, headers=ORIGIN),
    f"GET {V1}/session": Rule(404, 404, 404, 404, 404, 404),
    f"DELETE {V1}/session": anybody(headers=ORIGIN),
}


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """Without limits: here one address sends hundreds of wrong tokens."""
    unlimited = replace(settings, rate_limit="off", rate_limit_anonymous="off", rate_limit_failures="off")
    with make_client(unlimited) as client:
        yield client


@dataclass
class World:
    """The project `ours` with a running job and its files, and one token of each kind of caller."""

    job_id: str
    artifact_id: str
    worker: FakeWorker
    tokens: dict[str, str | None]
    ids: dict[str, str]


@pytest.fixture
def world(client: TestClient) -> World:
    make_project(client, "ours")
    make_project(client, "theirs")
    job_id, artifact_id, worker = _job_with_everything(client, "ours")
    make_user(client, "spare")
    sweep = client.post(f"{V1}/sweeps", params={"project": "ours"}, json=tiny_sweep()).json()
    made = [client.post(f"{V1}/tokens", json={"name": "x", "scope": "admin"}).json() for _ in range(3)]
    revoked, expired, target = made
    client.delete(f"{V1}/tokens/{revoked['id']}")
    with client.app.state.db.write() as session:
        session.get(Token, expired["id"]).expires_at = time.time() - 1
    disabled = make_user(client, "dora", "admin", project="ours")
    client.patch(f"{V1}/users/dora", json={"disabled": True})
    tokens = {
        "viewer": make_user(client, "vic", "viewer", project="ours"),
        "editor": make_user(client, "eve", "editor", project="ours"),
        "project admin": make_user(client, "pam", "admin", project="ours"),
        "installation admin": make_token(client),
        "stranger": make_user(client, "sam", "editor", project="theirs"),
        "reader": make_token(client, scope="read"),
        "nobody": None,
        "revoked": revoked["token"],
        "expired": expired["token"],
        "disabled": disabled,
        "attempt": worker.headers["Authorization"].removeprefix("Bearer "),
    }
    ids = {
        "job_id": job_id, "artifact_id": artifact_id, "attempt_id": worker.attempt_id, "project_id": "ours",
        "user": "spare", "token_id": target["id"], "webhook_id": "hook_1", "sweep_id": sweep["id"], "number": "1",
        "image": "100", "table_id": "table_1", "view_id": "view_1",
    }  # fmt: skip
    client.app.state.closing = lambda: True  # event streams end at once
    return World(job_id, artifact_id, worker, tokens, ids)


DRAWN = Drawn(2)


def _job_with_everything(client: TestClient, project: str) -> tuple[str, str, FakeWorker]:
    job, worker = start(client, project=project)
    worker.send(
        worker.metric(1, loss=1.0),
        worker.record("log", text="a line"),
        worker.artifact("result", "student.safetensors", 4, b"weights"),
        worker.evaluation(30.0),
    )
    with client.app.state.db.read() as session:
        artifact_id = session.scalars(select(Artifact.id).where(Artifact.job_id == job["id"])).one()
    worker.send(
        worker.artifact("predictions", "predictions.npz", 4, predictions_bytes(DRAWN, seen(DRAWN))),
        worker.artifact("gallery", "validation-images.zip", 4, gallery_bytes(DRAWN)),
    )
    return job["id"], artifact_id, worker


def _routes(client: TestClient) -> set[str]:
    contexts = list(iter_route_contexts(client.app.routes))
    return {f"{method} {context.path}" for context in contexts for method in context.methods or {"?"}}


def test_every_route_has_a_rule_and_every_rule_a_route(client: TestClient) -> None:
    assert _routes(client) == set(RULES)


def test_every_route_answers_every_caller_as_its_rule_says(client: TestClient, world: World) -> None:
    faults = []
    with TestClient(client.app, raise_server_exceptions=False) as bare:
        for name, rule in RULES.items():
            method, path = name.split(" ")
            params = {key: value.format_map(world.ids) for key, value in rule.params.items()}
            body = json.loads(json.dumps(rule.body).replace("{job_id}", world.job_id))
            for caller, token in world.tokens.items():
                if rule.before is not None:
                    rule.before(client)
                headers = {**rule.headers, **(bearer(token) if token else {})}
                response = bare.request(
                    method, path.format_map(world.ids), params=params, json=body, headers=headers,
                    follow_redirects=False,
                )  # fmt: skip
                got: int | str = response.status_code
                if got not in (401, 403, 404) and (response.status_code < 500 or path == "/readyz"):
                    got = OK
                if got != rule.expected(caller):
                    faults.append(f"{name} as {caller}: {response.status_code}, expected {rule.expected(caller)}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("who", ["member of another project", "administrator's token for another project"])
def test_nothing_of_a_foreign_project_shows(client: TestClient, world: World, who: str) -> None:
    if who.startswith("member"):
        headers = bearer(str(world.tokens["stranger"]))
    else:
        headers = bearer(make_token(client, project="theirs"))
    with TestClient(client.app, headers=headers) as foreign:
        own = submit(foreign, project="theirs")["id"]
        known = {"own": own, "foreign": world.job_id}

        for method, path in (
            *(("GET", part) for part in ("", "/metrics", "/logs", "/logs/stream", "/events", "/evaluations")),
            *(("GET", part) for part in ("/artifacts", "/mlflow")),
            *(("POST", part) for part in ("/cancel", "/pause", "/resume", "/retry", "/clone")),
            ("PATCH", ""),
        ):
            body = None if method == "GET" else {}
            hidden = foreign.request(method, f"{V1}/jobs/{world.job_id}{path}", json=body)
            missing = foreign.request(method, f"{V1}/jobs/job_nothing{path}", json=body)
            assert (hidden.status_code, missing.status_code) == (404, 404)
            # as if it did not exist: nothing tells the two apart
            assert hidden.json()["detail"].replace(world.job_id, "ID") == missing.json()["detail"].replace(
                "job_nothing", "ID"
            )
        assert foreign.get(f"{V1}/artifacts/{world.artifact_id}/content").status_code == 404
        assert foreign.get(f"{V1}/compare", params={"ids": ",".join(known.values())}).status_code == 404
        assert foreign.get(f"{V1}/events", params={"job": world.job_id}).status_code == 404
        assert foreign.get(f"{V1}/projects/ours").status_code == 404

        for path in ("/series:query", "/series:table"):
            hidden, missing = (
                foreign.post(V1 + path, json={"runs": [own, id], "metrics": ["loss"]})
                for id in (world.job_id, "job_nothing")
            )
            assert hidden.text.replace(world.job_id, "ID") == missing.text.replace("job_nothing", "ID")
        batch = foreign.post(f"{V1}/jobs:batch", json={"verb": "cancel", "ids": [world.job_id]}).json()
        assert batch["items"][0]["problem"]["status"] == 404
        assert client.get(f"{V1}/jobs/{world.job_id}").json()["state"] == "running"

        assert [job["id"] for job in foreign.get(f"{V1}/jobs").json()["items"]] == [own]
        for question in ("project:ours", "name:tiny", f"id:{world.job_id}", "loss>0 or state:running"):
            found = foreign.get(f"{V1}/jobs", params={"filter": question})
            assert found.status_code in (200, 422)
            assert world.job_id not in json.dumps(found.json().get("items", []))
        counted = foreign.get(f"{V1}/jobs:count").json()
        assert counted["total"] == 1
        assert [project["id"] for project in foreign.get(f"{V1}/projects").json()["items"]] == ["theirs"]
        turns = iter([False, True])
        client.app.state.closing = lambda: next(turns, True)
        stream = foreign.get(f"{V1}/events").text
        assert own in stream
        assert world.job_id not in stream


def test_a_foreign_job_is_no_teacher_and_nothing_to_wait_for(client: TestClient, world: World) -> None:
    headers, theirs = bearer(str(world.tokens["stranger"])), {"project": "theirs"}
    taught = tiny_spec(teacher={"job": world.job_id}, methods=[{"type": "bckd"}])
    response = client.post(f"{V1}/jobs", params=theirs, json=taught, headers=headers)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/teacher/job"
    response = client.post(f"{V1}/jobs", params={**theirs, "after": world.job_id}, json=tiny_spec(), headers=headers)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "?after"


def test_a_token_of_another_attempt_opens_nothing(client: TestClient, world: World) -> None:
    _, other = start(client)
    path = f"{V1}/attempts/{world.worker.attempt_id}"
    assert client.get(f"{path}/ticket", headers=other.headers).status_code == 401
    assert client.post(f"{path}/records", json={"epoch": 1, "records": []}, headers=other.headers).status_code == 401
