"""What a webhook wants to know arrives, signed, at least once; a receiver that fails harms nobody but itself."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from sqlalchemy import func, select

from service.models import Delivery
from service.webhooks.deliver import Deliveries
from tests.helpers.api import finish, make_project, start, submit, tiny_spec
from tests.helpers.receiver import Receiver, in_turn, status

from .conftest import Dispatcher

ROOT = Path(__file__).parents[3]


def is_from_bcd(*arguments):
    """The function that our documentation gives to receivers."""
    snippet = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "webhooks.md").read_text(), re.DOTALL)[1]
    names = {}
    exec(snippet, names)
    return names["is_from_bcd"](*arguments)


def shown(client, hook, **params):
    return client.get(f"/api/v1/webhooks/{hook['id']}/deliveries", params=params).json()["items"]


def bodies(receiver):
    return [json.loads(got.body) for got in receiver.got]


def test_a_job_that_ends_is_told_with_its_result(client, receiver, hook, dispatcher):
    hook()
    job = finish(client, tiny_spec(name="student ü"), 38.25)
    dispatcher.round()
    (told,) = bodies(receiver)
    assert told["type"] == "job.state"
    assert told["project"] == "default"
    assert told["job"] == {
        "id": job, "name": "student ü", "state": "succeeded", "cause": None,
        "url": f"https://bcd.example.org/api/v1/jobs/{job}", "AP": 38.25,
    }  # fmt: skip
    assert receiver.got[0].headers["content-type"] == "application/json"


def test_only_what_a_webhook_asked_for_is_sent(client, receiver, hook, dispatcher):
    make_project(client, "other")
    hook(states=["running", "failed"])
    _, worker = start(client)
    _, foreign = start(client, project="other")
    foreign.send(foreign.ended("failed", cause="of another project"))
    worker.send(worker.ended("failed", cause="the loss is not finite"))
    finish(client, tiny_spec(seed=1), 1.0)
    dispatcher.round()
    states = [(told["job"]["state"], told["job"]["cause"]) for told in bodies(receiver)]
    assert states == [("running", None), ("failed", "the loss is not finite"), ("running", None)]


def test_what_happened_before_is_not_told(client, receiver, hook, dispatcher):
    finish(client, tiny_spec(), 1.0)
    dispatcher.round()
    hook()
    dispatcher.round()
    assert receiver.got == []


def test_the_documented_check_knows_a_delivery_from_a_forgery(client, receiver, hook, dispatcher, clock):
    made = hook()
    finish(client, tiny_spec(), 1.0)
    dispatcher.round()
    got = receiver.got[0]
    header = got.headers["x-bcd-signature"]
    assert is_from_bcd(made["secret"], header, got.body)
    assert not is_from_bcd(made["secret"], header, got.body + b" ")
    assert not is_from_bcd(made["secret"][:-1] + "0", header, got.body) or made["secret"].endswith("0")
    assert not is_from_bcd(hook()["secret"], header, got.body)
    sent_at = int(re.match(r"t=(\d+),", header)[1])
    assert not is_from_bcd(made["secret"], header.replace(f"t={sent_at}", f"t={sent_at + 1}"), got.body)
    for odd in ("", "t=1", "v1=00", "t=x,v1=y", "t=٣,v1=y", "nonsense", header.replace("v1=", "v1=é")):
        assert not is_from_bcd(made["secret"], odd, got.body)


def test_an_old_delivery_does_not_pass_the_documented_check(client, receiver, hook, dispatcher):
    made = hook()
    finish(client, tiny_spec(), 1.0)
    dispatcher.clock.advance(-301)
    dispatcher.deliveries._make()
    dispatcher.round()
    got = receiver.got[0]
    assert not is_from_bcd(made["secret"], got.headers["x-bcd-signature"], got.body)


def test_a_delivery_that_fails_is_sent_again_under_the_same_id(client, receiver, hook, dispatcher):
    made = hook()
    receiver.answer = in_turn(status(500), status(200))
    finish(client, tiny_spec(), 1.0)
    dispatcher.round()
    (before,) = shown(client, made)
    assert (before["state"], before["tries"], before["status"]) == ("pending", 1, 500)
    assert before["error"] == "it answered 500"
    dispatcher.round()
    assert len(receiver.got) == 1  # not yet
    dispatcher.round(after=20)
    (after,) = shown(client, made)
    assert (after["state"], after["tries"], after["status"], after["error"]) == ("delivered", 2, 200, None)
    first, second = receiver.got
    assert first.headers["x-bcd-delivery"] == second.headers["x-bcd-delivery"] == after["id"]
    assert first.body == second.body
    assert first.headers["x-bcd-signature"] != second.headers["x-bcd-signature"]  # the time is that of the try


def test_pauses_grow_and_after_a_day_the_delivery_has_failed_but_the_webhook_stays(client, receiver, hook, dispatcher):
    made = hook()
    receiver.answer = status(503)
    finish(client, tiny_spec(), 1.0)
    tries = []
    for _ in range(60):
        dispatcher.round()
        (row,) = shown(client, made)
        if row["state"] != "pending":
            break
        tries.append(row["next_at"])
        dispatcher.clock.advance_to(row["next_at"] + 75)  # behind the receiver's rest as well
    assert (row["state"], row["error"]) == ("failed", "it answered 503")
    assert 24 * 3600 <= row["ended_at"] - row["created_at"] <= 28 * 3600
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert sorted(pauses[2:9]) == pauses[2:9]  # they double, and chance takes less than that off
    assert max(pauses) <= 2.6 * 3600
    (listed,) = client.get("/api/v1/projects/default/webhooks").json()["items"]
    assert (listed["active"], listed["failing_since"], listed["delivered_at"]) == (True, row["created_at"], None)
    receiver.answer = status(204)
    finish(client, tiny_spec(seed=1), 1.0)
    dispatcher.round(after=100)
    (listed,) = client.get("/api/v1/projects/default/webhooks").json()["items"]
    assert (listed["failing_since"], listed["pending"]) == (None, 0)
    assert listed["delivered_at"] > row["ended_at"]


def test_a_redirect_to_a_metadata_service_is_not_followed(client, receiver, hook, dispatcher):
    made = hook()
    receiver.answer = status(307, Location="http://169.254.169.254/latest/meta-data/")
    finish(client, tiny_spec(), 1.0)
    dispatcher.round()
    assert shown(client, made)[0]["error"] == "it answered 307; redirects are not followed"


def test_a_name_that_comes_to_mean_a_private_address_is_not_called(client, receiver, hook, settings, clock):
    made = hook(url=f"http://rebind.example:{receiver.port}/x")
    answers = iter(["127.0.0.1", "10.0.0.1"])

    def resolver(host, port, **_):
        return [(2, 1, 6, "", (next(answers), port))]

    deliveries = Deliveries(settings, client.app.state.db, clock=clock, resolver=resolver)
    for seed in range(2):
        finish(client, tiny_spec(seed=seed), 1.0)
        deliveries.round()
        deliveries.settle()
    refused, arrived = shown(client, made)
    assert (arrived["state"], refused["state"]) == ("delivered", "pending")
    assert refused["error"].startswith("the host is not public")
    assert len(receiver.got) == 1


def test_a_dispatcher_killed_between_sending_and_noting_it_sends_again_under_the_same_id(
    client, receiver, hook, dispatcher, settings
):
    made = hook()
    finish(client, tiny_spec(), 1.0)
    script = """
        import sys
        from service.db import Database
        from service.settings import Settings
        from service.webhooks.deliver import Deliveries
        home, url = sys.argv[1:]
        settings = Settings.load(home, database_url=url, webhook_allow=("127.0.0.1",))
        deliveries = Deliveries(settings, Database(url))
        deliveries.round()
        deliveries.settle()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(settings.home), settings.database_url]
    receiver.answer = lambda handler: os.kill(process.pid, signal.SIGKILL)
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.wait(120) == -signal.SIGKILL
    receiver.answer = status(200)
    dispatcher.round()
    assert len(receiver.got) == 1  # it may still be on its way
    dispatcher.round(after=61)
    assert [got.headers["x-bcd-delivery"] for got in receiver.got] == [shown(client, made)[0]["id"]] * 2
    assert shown(client, made)[0]["state"] == "delivered"


def test_two_dispatchers_at_once_send_each_delivery_once(client, receiver, hook, settings, clock):
    hook(states=["queued", "succeeded"])
    jobs = [finish(client, tiny_spec(seed=seed), 1.0) for seed in range(5)]
    both = [Dispatcher(settings, client.app.state.db, clock) for _ in range(2)]
    for one in both:
        one.deliveries.round()
    for one in both:
        one.deliveries.settle()
    told = [(told["job"]["id"], told["job"]["state"]) for told in bodies(receiver)]
    assert sorted(told) == sorted((job, state) for job in jobs for state in ("queued", "succeeded"))


def test_deliveries_come_in_the_order_of_events(client, receiver, hook, dispatcher):
    hook(states=["queued", "starting", "running", "succeeded"])
    finish(client, tiny_spec(), 1.0)
    submit(client, tiny_spec(seed=1))
    dispatcher.round()
    states = [told["job"]["state"] for told in bodies(receiver)]
    assert states == ["queued", "starting", "running", "succeeded", "queued"]


def test_receivers_that_fail_do_not_keep_others_waiting(client, receiver, hook, dispatcher):
    with Receiver() as dead:
        dead.answer = status(500)
        for _ in range(12):
            hook(url=dead.url)
        make_project(client, "other")
        hook("other")
        for project in ("default", "other"):
            for seed in range(3):
                job, worker = start(client, tiny_spec(seed=seed), project=project)
                worker.send(worker.ended("failed", cause=job["id"]))
        dispatcher.round()
        assert len(receiver.got) == 3
        assert len(dead.got) == 2  # two of one project at a time, and one try of each


def test_a_receiver_that_fails_is_left_alone_for_a_while(client, receiver, hook, dispatcher):
    made = hook()
    receiver.answer = status(500)
    for seed in range(5):
        finish(client, tiny_spec(seed=seed), 1.0)
    for _ in range(5):
        dispatcher.round()
    assert len(receiver.got) == 1
    receiver.answer = status(200)
    dispatcher.round(after=20)
    assert {row["state"] for row in shown(client, made)} == {"delivered"}


def test_a_webhook_that_is_switched_off_is_told_nothing_nor_later_what_it_missed(client, receiver, hook, dispatcher):
    made = hook()
    url = f"/api/v1/webhooks/{made['id']}"
    assert client.patch(url, json={"active": False}).json()["active"] is False
    finish(client, tiny_spec(), 1.0)
    dispatcher.round()
    client.patch(url, json={"active": True})
    finish(client, tiny_spec(seed=1), 2.0)
    dispatcher.round()
    assert [told["job"]["AP"] for told in bodies(receiver)] == [2.0]


def test_a_restarted_dispatcher_makes_no_delivery_twice_and_misses_none(client, receiver, hook, settings, clock):
    hook()
    for seed in range(3):
        finish(client, tiny_spec(seed=seed), float(seed))
        one = Dispatcher(settings, client.app.state.db, clock)
        one.round()
    assert [told["job"]["AP"] for told in bodies(receiver)] == [0.0, 1.0, 2.0]


def test_a_quiet_round_asks_the_database_twice(client, receiver, hook, dispatcher, statements):
    hook()
    finish(client, tiny_spec(), 1.0)
    dispatcher.round()
    statements.clear()
    dispatcher.round()
    assert len(statements) == 2


def test_deliveries_that_ended_long_ago_are_removed(client, receiver, hook, dispatcher):
    made = hook()
    finish(client, tiny_spec(), 1.0)
    dispatcher.round()
    dispatcher.round(after=29 * 24 * 3600)
    assert len(shown(client, made)) == 1
    dispatcher.round(after=2 * 24 * 3600)
    assert shown(client, made) == []


def test_the_thread_delivers(client, receiver, hook, settings):
    hook()
    deliveries = Deliveries(settings, client.app.state.db)
    deliveries.start()
    try:
        finish(client, tiny_spec(), 1.0)
        with client.app.state.db.read() as session:
            arrived = select(func.count()).where(Delivery.state == "delivered")
            while session.scalar(arrived) == 0:
                session.rollback()
    finally:
        deliveries.stop(timeout=10)
    assert len(receiver.got) == 1
