"""The cluster's page: machines, what is in use by whom, how long the queue is, who leads."""

from __future__ import annotations

import time

from starlette.testclient import TestClient

from service.dispatch.leadership import Leadership
from service.models import Membership, Node, Project, Scope, Token, User
from tests.helpers.api import start, submit


def get(client: TestClient, **headers: str):
    response = client.get("/api/v1/cluster", headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def add(client: TestClient, *rows: object) -> None:
    with client.app.state.db.write() as session:  # type: ignore[attr-defined]
        for row in rows:
            session.add(row)
            session.flush()


def test_before_any_dispatcher_ran_there_is_nothing(client: TestClient) -> None:
    seen = get(client)
    assert (seen["nodes"], seen["leader"], seen["queue"]) == ([], None, {})
    assert seen["total"] == {"cpus": 0, "gpus": 0, "memory": 0}


def test_machines_with_what_they_have_and_those_that_are_away(client: TestClient) -> None:
    given = {"cpus": 8, "gpus": 2, "memory": 64.0, "seen_at": 1000.0}
    add(
        client,
        Node(id="b", name="gpu-2", alive=False, data={}, **given),
        Node(id="a", name="gpu-1", alive=True, data={"spares": 1}, **given),
    )
    seen = get(client)
    assert [(n["name"], n["alive"], n["spares"]) for n in seen["nodes"]] == [("gpu-1", True, 1), ("gpu-2", False, 0)]
    assert seen["total"] == {"cpus": 8, "gpus": 2, "memory": 64}


def test_what_live_attempts_hold_and_how_long_the_queue_is(client: TestClient) -> None:
    start(client)
    submit(client)
    submit(client)
    seen = get(client)
    assert seen["in_use"] == {"jobs": 1, "cpus": 1, "gpus": 0, "memory": 0}
    (project,) = seen["projects"]
    assert (project["project"], project["jobs"], project["cpus"], project["max_jobs"]) == ("default", 1, 1, None)
    assert seen["queue"] == project["queue"] == {"running": 1, "queued": 2}


def test_a_member_of_one_project_sees_the_sum_but_not_the_other_projects(client: TestClient) -> None:
    from service.access.principal import token_hash

    start(client)
    secret = "0" * 40
    add(
        client,
        Project(id="cells", created_at=0.0, max_gpus=1.5),
        User(id="user_1", name="ann", created_at=0.0),
        Membership(project_id="cells", user_id="user_1", role="viewer"),
        Token(
            id="tok_1", user_id="user_1", type="api", name="x", sha256=token_hash(secret), scope=Scope.READ.value,
            created_at=0.0,
        ),
    )  # fmt: skip
    seen = get(client, Authorization=f"Bearer {secret}")
    assert [(p["project"], p["jobs"], p["max_gpus"]) for p in seen["projects"]] == [("cells", 0, 1.5)]
    assert seen["in_use"]["jobs"] == 1
    assert seen["queue"] == {}


def test_who_leads_and_whether_it_was_heard_of(client: TestClient) -> None:
    db = client.app.state.db  # type: ignore[attr-defined]
    lead = Leadership(db, "dispatch", seconds=60.0, holder="machine-1/1/2/3.0")
    assert lead.seek()
    leader = get(client)["leader"]
    assert (leader["holder"], leader["epoch"], leader["leads"]) == ("machine-1", 1, True)
    assert leader["until"] > time.time()
    lead.resign()
    assert not get(client)["leader"]["leads"]
