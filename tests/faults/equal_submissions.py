"""1,000 concurrent equal submissions with one Idempotency-Key make one job; another body with it is refused."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import httpx

from service.auth import owner_token
from tests.faults.world import Outcome, World
from tests.helpers.installation import spec

AT_ONCE = 1000


def run(world: World, times: int) -> Outcome:
    outcome = Outcome(f"{AT_ONCE} equal submissions at once", times)
    for i in range(times):
        ids, statuses = asyncio.run(_round(world, f"key-{i}-{secrets.token_hex(4)}", i))
        world.acknowledged += ids
        if len(set(ids)) != 1:
            outcome.broken.append(f"round {i}: {len(set(ids))} jobs from one key")
        if len(ids) != AT_ONCE:
            outcome.broken.append(f"round {i}: {AT_ONCE - len(ids)} requests were never answered with the job")
        outcome.counts["answers 201"] = outcome.counts.get("answers 201", 0) + statuses.count(201)
        world.say(f"{i + 1} of {times}")
    world.drain()
    world.check(outcome)
    return outcome


async def _round(world: World, key: str, seed: int) -> tuple[list[str], list[int]]:
    headers = {"Authorization": f"Bearer {owner_token(world.settings)}", "Idempotency-Key": key}
    limits = httpx.Limits(max_connections=100)
    body = spec(2, seed=seed)
    async with httpx.AsyncClient(
        base_url=world.settings.api_url, headers=headers, limits=limits, timeout=120, trust_env=False
    ) as http:
        dropped = list[int]()

        async def one(number: int) -> tuple[str | None, int]:
            for _ in range(50):
                if number % 20 == 0:  # some clients drop in the middle and ask again
                    with contextlib.suppress(httpx.TransportError):
                        await http.post("/api/v1/jobs", json=body, timeout=0.01)
                try:
                    answer = await http.post("/api/v1/jobs", json=body)
                except httpx.TransportError:  # as any client: the key makes it safe to ask again
                    dropped.append(number)
                    continue
                if answer.status_code in (200, 201):
                    return str(answer.json()["id"]), answer.status_code
                assert answer.status_code in (429, 503), answer.text
                await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
            return None, 0

        answers = await asyncio.gather(*(one(number) for number in range(AT_ONCE)))
        world.say(f"{len(dropped)} requests were cut off and sent again")
        other = await http.post("/api/v1/jobs", json={**body, "seed": seed + 1_000_000})
        assert other.status_code == 409, other.text
    return [id for id, _ in answers if id is not None], [status for _, status in answers]
