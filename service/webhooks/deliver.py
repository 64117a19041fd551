"""Tells webhooks what has happened: makes a delivery of each event that one wants, and sends it until it has arrived.

A delivery is a row, made from its event at most once and sent at least once: whoever dies between the answer and the
note of it leaves a row that is sent again, under the same id. A receiver that fails is left alone for longer and
longer; a delivery that has not arrived for a day has failed.
"""

from __future__ import annotations

import json
import logging
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.db import Database
from service.events.service import newest_id
from service.events.tail import tail
from service.links import job_url
from service.models import Delivery, Evaluation, Event, Job, JobState, Webhook
from service.outbound import Allowed, NotAllowed, Resolver, Unanswered, post
from service.settings import Settings
from service.webhooks import repository
from service.webhooks.service import delivery_id
from service.webhooks.signature import DELIVERY_HEADER, HEADER, secret_of, signature

log = logging.getLogger("bcd.webhooks")

PAUSE, LONG_PAUSE = 1.0, 10.0  # seconds between rounds; after a fault of our own
FIRST_RETRY, LONGEST_RETRY = 10.0, 2 * 3600.0  # seconds
GIVE_UP_AFTER = 24 * 3600.0
CLAIM_SECONDS = 60.0  # for which a delivery that is being sent is nobody else's; longer than any try takes
LONGEST_REST = 60.0  # seconds for which a receiver is left alone after failures in a row
WORKERS, OF_A_PROJECT = 8, 2  # receivers that are called at a time, and of them of one project
KEEP_SECONDS = 30 * 24 * 3600.0  # for which ended deliveries can be looked at
LAG = 5000  # events after which a webhook's place is noted although none was for it


@dataclass(frozen=True)
class Claimed:
    """A delivery that is ours to try now."""

    id: int
    webhook_id: str
    event_id: int
    url: str
    body: bytes | None  # None: its event is gone
    tries: int
    created_at: float


class Deliveries:
    """The thread that delivers. `leading` says whether this process is the one that does, of several dispatchers."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        *,
        leading: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
        resolver: Resolver = socket.getaddrinfo,
    ):
        self._settings, self._db, self._leading, self._clock, self._resolver = settings, db, leading, clock, resolver
        self._allowed = Allowed.read(settings.webhook_allow)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="webhooks", daemon=True)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="webhook")
        self._busy: dict[str, tuple[str, Future[None]]] = {}  # project and work by webhook
        self._rests: dict[str, tuple[int, float]] = {}  # failures in a row of a receiver, and until when it rests
        self._seen: int | None = None  # the last event that was looked at
        self._clean_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def round(self) -> None:
        """Make what is to be delivered, and begin to send what is due."""
        self._make()
        self._send()
        self._clean()

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until what was begun has ended."""
        done, _ = wait([work for _, work in self._busy.values()], timeout)
        for work in done:
            work.result()

    # --------------------------------------------------------------------------------------------------- make

    def _make(self) -> None:
        """Deliveries of new events. Mostly one query that finds nothing."""
        while True:
            with self._db.read() as session:
                if self._seen is None:
                    places = [hook.event_id for hook in repository.active(session)]
                    self._seen = min(places, default=newest_id(session))
                told = tail(session, self._seen, now=self._clock())
                if not told:
                    return
                changes = [one.id for one in told if one.type == "job.state"]
                hooks = repository.active(session) if changes else []
                wanted = _wanted(session, hooks, changes)
            last = told[-1].id
            late = [hook.id for hook in hooks if last - hook.event_id > LAG]
            if wanted or late:
                with self._db.write() as session:
                    for hook_id, events in wanted.items():
                        repository.insert(session, hook_id, events, now=self._clock())
                    for hook_id in {*wanted, *late}:
                        hook = session.get(Webhook, hook_id, with_for_update=True)
                        if hook is not None:
                            hook.event_id = max(hook.event_id, last)
            self._seen = last

    # --------------------------------------------------------------------------------------------------- send

    def _send(self) -> None:
        now = self._clock()
        self._busy = {hook: (project, work) for hook, (project, work) in self._busy.items() if not work.done()}
        with self._db.read() as session:
            due = repository.due(session, now=now)
        of_project = Counter(project for project, _ in self._busy.values())
        for hook_id, project in due:
            rests = self._rests.get(hook_id, (0, 0.0))[1] > now
            if len(self._busy) >= WORKERS or self._stop.is_set():
                return
            if hook_id in self._busy or rests or of_project[project] >= OF_A_PROJECT:
                continue
            of_project[project] += 1
            self._busy[hook_id] = project, self._pool.submit(self._serve, hook_id)

    def _serve(self, hook_id: str) -> None:
        """Send what is due to one receiver, in order, until it fails."""
        try:
            while not self._stop.is_set() and self._leading():
                with self._db.write() as session:
                    claimed = self._claim(session, hook_id)
                if claimed is None or not self._try(claimed):
                    return
        except Exception:
            log.exception("webhook %s: deliveries could not be handled", hook_id)

    def _claim(self, session: Session, hook_id: str) -> Claimed | None:
        found = repository.next_due(session, hook_id, now=self._clock())
        if found is None:
            return None
        row, hook, event = found
        row.tries += 1
        row.next_at = self._clock() + CLAIM_SECONDS
        body = _body(session, self._settings, event) if event is not None else None
        return Claimed(row.id, hook.id, row.event_id, hook.url, body, row.tries, row.created_at)

    def _try(self, claimed: Claimed) -> bool:
        """Send it, and note what became of it; whether it has arrived."""
        status, error = None, None
        if claimed.body is None:
            error = "what it is about is no longer in the database"
        else:
            try:
                status = self._post(claimed, claimed.body)
                error = None if 200 <= status < 300 else _complaint(status)
            except (NotAllowed, Unanswered) as fault:
                error = str(fault)
        now = self._clock()
        with self._db.write() as session:
            row = session.get(Delivery, claimed.id, with_for_update=True)
            if row is not None and row.state == repository.PENDING:  # else it was removed, or somebody else sent it
                row.status, row.error = status, error
                if error is None:
                    row.state, row.ended_at = repository.DELIVERED, now
                elif claimed.body is None or now - claimed.created_at > GIVE_UP_AFTER:
                    row.state, row.ended_at = repository.FAILED, now
                else:
                    row.next_at = now + _pause(claimed.tries, LONGEST_RETRY)
        if error is None:
            self._rests.pop(claimed.webhook_id, None)
            return True
        failures = self._rests.get(claimed.webhook_id, (0, 0.0))[0] + 1
        self._rests[claimed.webhook_id] = failures, now + _pause(failures, LONGEST_REST)
        log.info("webhook %s: delivery of event %s failed: %s", claimed.webhook_id, claimed.event_id, error)
        return False

    def _post(self, claimed: Claimed, body: bytes) -> int:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "bcd-webhook",
            DELIVERY_HEADER: delivery_id(claimed.webhook_id, claimed.event_id),
            HEADER: signature(secret_of(self._settings, claimed.webhook_id), int(self._clock()), body),
        }
        return post(claimed.url, body, headers, allowed=self._allowed, resolver=self._resolver)

    def _clean(self) -> None:
        now = self._clock()
        if now < self._clean_at:
            return
        self._clean_at = now + 3600.0
        with self._db.write() as session:
            repository.delete_old(session, before=now - KEEP_SECONDS)

    def _loop(self) -> None:
        pause = PAUSE
        while not self._stop.wait(pause):
            pause = PAUSE
            try:
                if self._leading():
                    self.round()
                else:
                    self._seen = None
            except Exception:
                pause = LONG_PAUSE
                log.exception("a round of the webhooks failed; it goes on")


def _wanted(session: Session, hooks: Sequence[Webhook], changes: Sequence[int]) -> dict[str, list[int]]:
    """Which of these events each webhook is to be told."""
    wanted: dict[str, list[int]] = {}
    if not hooks:
        return wanted
    query = select(Event.id, Event.project_id, Event.data).where(
        Event.id.in_(changes), Event.project_id.in_({hook.project_id for hook in hooks})
    )
    for id, project, data in session.execute(query.order_by(Event.id)):
        for hook in hooks:
            if hook.project_id == project and id > hook.event_id and data.get("to") in hook.states:
                wanted.setdefault(hook.id, []).append(id)
    return wanted


def _body(session: Session, settings: Settings, event: Event) -> bytes:
    """What a receiver gets. The state is the one that the event is about; the job may have moved on."""
    job = session.get(Job, event.job_id) if event.job_id is not None else None
    told = None
    if job is not None:
        state = event.data.get("to")
        told = {
            "id": job.id, "name": job.name, "state": state, "cause": event.data.get("cause"),
            "url": job_url(settings, job.id), "AP": _ap(session, job) if state == JobState.SUCCEEDED else None,
        }  # fmt: skip
    value = {"id": event.id, "type": event.type, "time": event.time, "project": event.project_id, "job": told}
    return json.dumps(value, ensure_ascii=False).encode()


def _ap(session: Session, job: Job) -> float | None:
    query = select(Evaluation.results).where(Evaluation.job_id == job.id, Evaluation.name == "final")
    ap: float | None = (session.scalar(query) or {}).get("AP")
    return ap


def _complaint(status: int) -> str:
    return f"it answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")


def _pause(failures: int, longest: float) -> float:
    """Seconds until the next try: twice as long each time, with jitter, so that many do not come back in step."""
    return min(longest, FIRST_RETRY * 2.0 ** min(failures - 1, 20)) * random.uniform(0.75, 1.25)
