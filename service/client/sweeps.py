"""Sweeps over the API: submit, look, report, and what is done to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from service.client.base import Api, segment

ENDED = frozenset({"succeeded", "failed", "stopped"})
Sweep = dict[str, Any]


class Sweeps(Api):
    """Raises `ApiError` where the service refuses, `ServiceUnavailable` where it is not."""

    def submit_sweep(
        self,
        spec: Mapping[str, Any],
        idempotency_key: str | None = None,
        *,
        project: str | None = None,
        priority: int | None = None,
    ) -> Sweep:
        """Hand in a sweep. Safe to repeat with the same key; without one a fresh key guards this call alone."""
        given = {"project": project, "priority": priority}
        params = {key: value for key, value in given.items() if value is not None}
        sweep: Sweep = self._make("/api/v1/sweeps", dict(spec), idempotency_key, params)
        return sweep

    def validate_sweep(self, spec: Mapping[str, Any], *, project: str | None = None) -> dict[str, Any]:
        """What a submission would do and be refused for; stores nothing."""
        found: dict[str, Any] = self._post("/api/v1/sweeps:validate", dict(spec), project=project)
        return found

    def sweep(self, sweep_id: str) -> Sweep:
        sweep: Sweep = self._get(f"/api/v1/sweeps/{segment(sweep_id)}")
        return sweep

    def each_sweep(self, *, state: str | None = None) -> Iterator[Sweep]:
        """All sweeps, newest first."""
        cursor = None
        while True:
            page = self._get("/api/v1/sweeps", state=state, limit=200, cursor=cursor)
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def trials(self, sweep_id: str) -> list[dict[str, Any]]:
        """All runs of a sweep by number and seed; each is a job."""
        items: list[dict[str, Any]] = self._get(f"/api/v1/sweeps/{segment(sweep_id)}/trials")["items"]
        return items

    def sweep_report(self, sweep_id: str) -> dict[str, Any]:
        """What it found: best, ranking over seeds, cost."""
        found: dict[str, Any] = self._get(f"/api/v1/sweeps/{segment(sweep_id)}/report")
        return found

    def importance(self, sweep_id: str) -> dict[str, Any]:
        """Which parameters matter."""
        found: dict[str, Any] = self._get(f"/api/v1/sweeps/{segment(sweep_id)}/importance")
        return found

    def best_spec(self, sweep_id: str) -> dict[str, Any]:
        """The winner's job spec."""
        found: dict[str, Any] = self._get(f"/api/v1/sweeps/{segment(sweep_id)}/best")
        return found

    def pause_sweep(self, sweep_id: str) -> Sweep:
        return self._sweep_verb(sweep_id, "pause")

    def resume_sweep(self, sweep_id: str) -> Sweep:
        return self._sweep_verb(sweep_id, "resume")

    def stop_sweep(self, sweep_id: str) -> Sweep:
        return self._sweep_verb(sweep_id, "stop")

    def extend_sweep(
        self, sweep_id: str, budget: Mapping[str, Any] | None = None, *, promote: Mapping[str, Any] | None = None
    ) -> Sweep:
        """A larger budget (the whole new one) for a sweep that searches or has ended."""
        body = {"budget": budget, "promote": promote}
        return self._sweep_verb(sweep_id, "extend", {key: dict(value) for key, value in body.items() if value})

    def wait_sweep(
        self,
        sweep_id: str,
        *,
        every: float = 1.0,
        timeout: float | None = None,
        told: Callable[[Sweep], None] = lambda _: None,
    ) -> Sweep:
        """Wait until it has ended; `told` is called with each look at it. Raises TimeoutError."""
        until = time.monotonic() + timeout if timeout is not None else None
        while True:
            sweep = self.sweep(sweep_id)
            told(sweep)
            if sweep["state"] in ENDED:
                return sweep
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"sweep {sweep_id} is still {sweep['state']} after {timeout:.0f} s")
            time.sleep(every)

    def _sweep_verb(self, sweep_id: str, verb: str, body: Any = None) -> Sweep:
        sweep: Sweep = self._post(f"/api/v1/sweeps/{segment(sweep_id)}/{verb}", body)
        return sweep
