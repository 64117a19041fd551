"""Event streams that break off: a client that resumes by Last-Event-ID misses nothing and sees nothing twice."""

from __future__ import annotations

import threading

import httpx

from service.auth import owner_token
from tests.faults.world import Outcome, World


def run(world: World, times: int) -> Outcome:
    outcome = Outcome("event stream broken off", times)
    jobs = max(4, times // 20)
    submitting = threading.Thread(target=lambda: [world.submit(20, seed=i) for i in range(jobs)])
    submitting.start()
    seen: list[int] = []
    headers = {"Authorization": f"Bearer {owner_token(world.settings)}"}
    drops = 0
    with httpx.Client(base_url=world.settings.api_url, headers=headers, timeout=30, trust_env=False) as http:
        while drops < times:
            resume = {"Last-Event-ID": str(seen[-1])} if seen else {}
            want = world.random.randint(1, 5)
            with http.stream("GET", "/api/v1/events", headers=resume) as stream:
                for line in stream.iter_lines():
                    if line.startswith("id:"):
                        seen.append(int(line[3:]))
                        want -= 1
                    if want <= 0 or line.startswith(":"):  # a comment: quiet right now
                        break
            drops += 1
            if drops % 100 == 0:
                world.say(f"{drops} of {times} streams, {len(seen)} events")
        submitting.join()
        world.drain()
        _read_rest(http, seen, world)
    there = _all_events(world)
    outcome.counts["events"] = len(there)
    if seen != there:
        outcome.broken.append(f"{len(set(there) - set(seen))} events missed, {len(seen) - len(set(seen))} repeated")
    world.check(outcome)
    return outcome


def _read_rest(http: httpx.Client, seen: list[int], world: World) -> None:
    newest = _all_events(world)[-1]
    with http.stream("GET", "/api/v1/events", headers={"Last-Event-ID": str(seen[-1])} if seen else {}) as stream:
        if seen and seen[-1] >= newest:
            return
        for line in stream.iter_lines():
            if line.startswith("id:"):
                seen.append(int(line[3:]))
                if seen[-1] >= newest:
                    return


def _all_events(world: World) -> list[int]:
    from sqlalchemy import select

    from service.models import Event

    with world.database.read() as session:
        return list(session.scalars(select(Event.id).order_by(Event.id)))
