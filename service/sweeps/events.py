"""What happens to a sweep, as events that clients follow (`sweep.state`)."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.orm import Session

from service.models import Event, Sweep, SweepState


def move(
    session: Session, sweep: Sweep, to: SweepState, *, actor: str, by: str | None = None, cause: str | None = None
) -> None:
    """Change the state of a locked sweep and write the event. The clock of the search runs only while it searches."""
    now = time.time()
    before = sweep.state
    sweep.searched = searched_seconds(sweep, now)
    sweep.searching_since = now if to is SweepState.SEARCHING else None
    sweep.state, sweep.cause = to.value, cause
    sweep.ended_at = now if to in ENDED else None
    data: dict[str, Any] = {"sweep_id": sweep.id, "from": before, "to": to.value, "cause": cause, "by": by}
    session.add(Event(time=now, type="sweep.state", job_id=None, project_id=sweep.project_id, actor=actor, data=data))


def searched_seconds(sweep: Sweep, now: float) -> float:
    """How long it has searched so far, pauses left out."""
    going = 0.0 if sweep.searching_since is None else max(0.0, now - sweep.searching_since)
    return sweep.searched + going


ENDED = frozenset({SweepState.SUCCEEDED, SweepState.FAILED, SweepState.STOPPED})
