"""Webhooks as a project's administrators see them: made with a key that is shown once, refused with a reason."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from service.models import Audit, Delivery, Webhook
from tests.helpers.api import bearer, finish, make_project, make_user, tiny_spec

URL = "https://hooks.example.org/bcd?token=of-the-receiver"
HOOKS = "/api/v1/projects/default/webhooks"


def test_the_key_is_shown_once(client):
    made = client.post(HOOKS, json={"url": URL}).json()
    assert made["secret"].startswith("whsec_")
    assert made["states"] == ["cancelled", "failed", "succeeded"]
    (listed,) = client.get(HOOKS).json()["items"]
    assert listed == {key: value for key, value in made.items() if key != "secret"}


def test_each_webhook_has_a_key_of_its_own(client):
    keys = [client.post(HOOKS, json={"url": URL}).json()["secret"] for _ in range(3)]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("body", "pointer", "word"),
    [
        ({"url": "http://10.0.0.1/x"}, "/url", "not public"),
        ({"url": "http://169.254.169.254/latest/meta-data/"}, "/url", "not public"),
        ({"url": "http://[::1]/x"}, "/url", "not public"),
        ({"url": "http://2130706433/"}, "/url", "four decimal numbers"),
        ({"url": "ftp://example.org/"}, "/url", "https://"),
        ({"url": "https://a:b@example.org/"}, "/url", "password"),
        ({"url": ""}, "/url", "at least 1"),
        ({"url": 5}, "/url", "string"),
        ({"url": URL, "states": []}, "/states", "at least 1"),
        ({"url": URL, "states": ["done"]}, "/states/0", "succeeded"),
        ({"url": URL, "secret": "mine"}, "/secret", "not permitted"),
        ({}, "/url", "required"),
    ],
)
def test_bad_webhooks_are_refused_with_the_reason(client, body, pointer, word):
    answer = client.post(HOOKS, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert word in answer.json()["errors"][0]["detail"]
    assert client.get(HOOKS).json()["items"] == []


def test_a_project_has_twenty_webhooks_at_most(client):
    for _ in range(20):
        assert client.post(HOOKS, json={"url": URL}).status_code == 201
    answer = client.post(HOOKS, json={"url": URL})
    assert answer.status_code == 409
    assert "delete one" in answer.json()["detail"]


def test_a_webhook_can_be_changed(client):
    made = client.post(HOOKS, json={"url": URL}).json()
    url = f"/api/v1/webhooks/{made['id']}"
    changed = client.patch(url, json={"url": "https://other.example/", "states": ["running"]}).json()
    assert (changed["url"], changed["states"], changed["active"]) == ("https://other.example/", ["running"], True)
    assert client.patch(url, json={"url": "http://192.168.0.1/"}).status_code == 422
    assert client.get(HOOKS).json()["items"] == [changed]


def test_a_webhook_is_removed_with_its_deliveries(client, hook, dispatcher):
    made = hook()
    finish(client, tiny_spec(), 1.0)
    dispatcher.round()
    assert client.delete(f"/api/v1/webhooks/{made['id']}").status_code == 204
    with client.app.state.db.read() as session:
        assert session.scalars(select(Delivery)).all() == session.scalars(select(Webhook)).all() == []
    assert client.get(f"/api/v1/webhooks/{made['id']}/deliveries").status_code == 404


def test_a_test_delivery_goes_the_way_of_all(client, hook, dispatcher, receiver):
    made = hook()
    sent = client.post(f"/api/v1/webhooks/{made['id']}/test")
    assert (sent.status_code, sent.json()["state"], sent.json()["type"]) == (202, "pending", "webhook.test")
    dispatcher.round()
    (shown,) = client.get(f"/api/v1/webhooks/{made['id']}/deliveries").json()["items"]
    assert (shown["id"], shown["state"], shown["status"]) == (sent.json()["id"], "delivered", 200)
    assert b'"type": "webhook.test"' in receiver.got[0].body
    assert b'"job": null' in receiver.got[0].body


def test_a_webhook_that_is_off_cannot_be_tested(client):
    made = client.post(HOOKS, json={"url": URL}).json()
    client.patch(f"/api/v1/webhooks/{made['id']}", json={"active": False})
    assert client.post(f"/api/v1/webhooks/{made['id']}/test").status_code == 409


def test_deliveries_are_listed_in_pages_newest_first(client, hook, dispatcher):
    made = hook(states=["queued", "succeeded"])
    for seed in range(3):
        finish(client, tiny_spec(seed=seed), 1.0)
    dispatcher.round()
    url = f"/api/v1/webhooks/{made['id']}/deliveries"
    everything = client.get(url).json()
    assert [row["job_state"] for row in everything["items"]] == ["succeeded", "queued"] * 3
    assert everything["next_cursor"] is None
    pages, cursor = [], None
    while True:
        page = client.get(url, params={"limit": 4, **({"cursor": cursor} if cursor else {})}).json()
        pages += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == everything["items"]


def test_what_administrators_do_is_on_record_without_what_an_address_may_hide(client):
    made = client.post(HOOKS, json={"url": URL}).json()
    client.patch(f"/api/v1/webhooks/{made['id']}", json={"active": False})
    client.delete(f"/api/v1/webhooks/{made['id']}")
    with client.app.state.db.read() as session:
        rows = session.scalars(select(Audit).where(Audit.target == made["id"]).order_by(Audit.id)).all()
    assert [row.action for row in rows] == ["webhook.create", "webhook.update", "webhook.delete"]
    assert rows[0].data == {"host": "hooks.example.org", "states": ["cancelled", "failed", "succeeded"]}
    assert {row.project_id for row in rows} == {"default"}


def test_administrators_of_another_project_see_nothing_of_it(client):
    made = client.post(HOOKS, json={"url": URL}).json()
    make_project(client, "theirs")
    headers = bearer(make_user(client, "pam", "admin", project="theirs"))
    url = f"/api/v1/webhooks/{made['id']}"
    assert client.get(HOOKS, headers=headers).status_code == 404
    for method, path in (("DELETE", url), ("POST", f"{url}/test"), ("GET", f"{url}/deliveries")):
        assert client.request(method, path, headers=headers).status_code == 404
    assert client.patch(url, json={"active": False}, headers=headers).status_code == 404
