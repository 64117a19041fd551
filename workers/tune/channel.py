"""The driver's calls to the service. What is away is waited for; what is final becomes an exception."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from bcd.sweep.wire import (
    BUDGET_SPENT,
    STALE_DRIVER,
    TRIALS_RUN,
    EndSearch,
    NewTrial,
    StopTrial,
    SweepTicket,
    TrialState,
)

PATIENCE = 24 * 3600.0  # seconds; as long as a worker waits for the service


class Stale(Exception):
    """Another driver has taken over, or the sweep does not search any more: stop."""


class Spent(Exception):
    """No further trial begins."""


class NotYet(Exception):
    """Trials that were stopped have not ended yet."""


class Refused(Exception):
    """The service understood and will never accept it."""


@dataclass(frozen=True)
class DriverArgs:
    """Which sweep to drive and where the service is. Plain text, so that it travels anywhere."""

    sweep_id: str
    epoch: int
    api_url: str
    work: str
    token: str = field(repr=False)


class SweepChannel:
    """One thread at a time."""

    def __init__(self, args: DriverArgs, *, patience: float = PATIENCE):
        headers = {"Authorization": f"Bearer {args.token}", "X-Epoch": str(args.epoch)}
        # trust_env=False: a proxy from the environment must never see the token or stand in a loopback call's way.
        self._http = httpx.Client(base_url=args.api_url, headers=headers, timeout=20.0, trust_env=False)
        self._path, self._patience = f"/api/v1/sweep-drivers/{args.sweep_id}", patience

    def ticket(self) -> SweepTicket:
        return SweepTicket.model_validate(self._call("GET", "/ticket"))

    def beat(self) -> None:
        self._call("POST", "/beat")

    def add(self, trial: NewTrial) -> TrialState:
        return TrialState.model_validate(self._call("POST", "/trials", trial.model_dump_json()))

    def look(self, number: int, *, after: int) -> TrialState:
        return TrialState.model_validate(self._call("GET", f"/trials/{number}?after={after}"))

    def stop(self, number: int, why: str) -> None:
        self._call("POST", f"/trials/{number}/stop", StopTrial(why=why[:500]).model_dump_json())

    def end(self, how: EndSearch) -> None:
        self._call("POST", "/end", how.model_dump_json())

    def _call(self, method: str, path: str, body: str | None = None) -> Any:
        deadline, pause = time.monotonic() + self._patience, 0.2
        while True:
            try:
                return self._once(method, path, body)
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise Stale(f"the service did not answer for {self._patience:.0f} s: {error}") from None
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(5.0, pause * 2)

    def _once(self, method: str, path: str, body: str | None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else None
        answer = self._http.request(method, self._path + path, content=body, headers=headers)
        if answer.is_success:
            return answer.json() if answer.content else None
        try:
            problem = answer.json()
        except ValueError:
            problem = {}
        kind, detail = problem.get("type"), str(problem.get("detail"))
        if kind == STALE_DRIVER:
            raise Stale(detail)
        if kind == BUDGET_SPENT:
            raise Spent(detail)
        if kind == TRIALS_RUN:
            raise NotYet(detail)
        if answer.status_code in (401, 404):
            raise Stale(f"{answer.status_code}: {detail}")
        if answer.status_code < 500 and answer.status_code not in (408, 425, 429):
            raise Refused(f"{answer.status_code}: {detail}")
        answer.raise_for_status()  # another one may be answered
        raise httpx.HTTPError(detail)
