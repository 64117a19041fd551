"""Figures for Prometheus: requests of this process, and the state of the installation read from the database at each
scrape (live rows are counted, nothing is kept beside them).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.attempts.service import LIVE
from service.db import Database
from service.models import Attempt, Delivery, Event, Job, JobState, Leader, Mirror, Node
from service.route import route_of

log = logging.getLogger("bcd.api")

_WAITING = (JobState.QUEUED.value, JobState.WAITING.value)


class Requests:
    """Innermost of the middlewares: counts and times requests by method, route and status."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry):
        self.app = app
        self._count = Counter(
            "bcd_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "bcd_http_request_seconds",
            "Time to the first byte of the answer.",
            ["method", "route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = route_of(scope)
                self._count.labels(scope["method"], route, str(message["status"])).inc()
                self._seconds.labels(scope["method"], route).observe(time.perf_counter() - start)
            await send(message)

        await self.app(scope, receive, timed)


class Installation(Collector):
    """What the database says of jobs, attempts, queue, cluster, mirror and webhooks."""

    def __init__(self, db: Database):
        self._db = db

    def describe(self) -> Iterable[Metric]:
        return []  # nothing to ask the database for at registration

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("bcd_database_up", "Whether the database answered this scrape.")
        try:
            with self._db.read() as session:
                families = list(_read(session, time.time()))
        except SQLAlchemyError as error:
            log.warning("a scrape got no answer of the database: %s", error)
            families = []
        up.add_metric([], float(bool(families)))
        yield up
        yield from families


def _read(session: Session, now: float) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("bcd_jobs", "Jobs by project and state.", labels=["project", "state"])
    query = select(Job.project_id, Job.state, func.count()).group_by(Job.project_id, Job.state)
    for project, state, count in session.execute(query):
        jobs.add_metric([project, state], count)
    yield jobs

    oldest = session.scalar(select(func.min(Job.created_at)).where(Job.state == JobState.QUEUED.value))
    age = GaugeMetricFamily("bcd_queue_oldest_seconds", "Age of the oldest queued job.")
    age.add_metric([], max(0.0, now - oldest) if oldest is not None else 0.0)
    yield age

    live = GaugeMetricFamily("bcd_attempts_live", "Attempts that hold resources.")
    held = GaugeMetricFamily("bcd_resources_held", "What live attempts hold.", labels=["kind"])
    overdue = GaugeMetricFamily("bcd_attempts_overdue", "Live attempts whose lease has run out.")
    row = session.execute(
        select(func.count(), func.sum(Attempt.cpus), func.sum(Attempt.gpus)).where(Attempt.state.in_(LIVE))
    ).one()
    live.add_metric([], row[0])
    held.add_metric(["cpu"], float(row[1] or 0))
    held.add_metric(["gpu"], float(row[2] or 0))
    late = select(func.count()).where(Attempt.state.in_(LIVE), Attempt.lease_until < now)
    overdue.add_metric([], session.scalar(late) or 0)
    yield from (live, held, overdue)

    ended = CounterMetricFamily("bcd_attempts_ended", "Attempts that have ended.", labels=["state", "cause"])
    ends = select(Attempt.state, Attempt.cause_type, func.count()).where(Attempt.state.not_in(LIVE))
    for state, cause, count in session.execute(ends.group_by(Attempt.state, Attempt.cause_type)):
        ended.add_metric([state, cause or ""], count)
    yield ended

    nodes = GaugeMetricFamily("bcd_nodes", "Machines of the cluster.", labels=["alive"])
    capacity = GaugeMetricFamily("bcd_resources_total", "What living machines have.", labels=["kind"])
    alive = session.execute(select(Node.alive, func.count()).group_by(Node.alive)).all()
    for up, count in alive:
        nodes.add_metric(["yes" if up else "no"], count)
    sums = session.execute(select(func.sum(Node.cpus), func.sum(Node.gpus)).where(Node.alive.is_(True))).one()
    capacity.add_metric(["cpu"], float(sums[0] or 0))
    capacity.add_metric(["gpu"], float(sums[1] or 0))
    yield from (nodes, capacity)

    leads = GaugeMetricFamily("bcd_leader_seconds_left", "Until leadership of a task runs out.", labels=["task"])
    for task, until in session.execute(select(Leader.task, Leader.until)):
        leads.add_metric([task], until - now)
    yield leads

    mirrored = session.scalar(select(func.count()).where(Mirror.complete.is_(True))) or 0
    total = session.scalar(select(func.count()).select_from(Job)) or 0
    behind = GaugeMetricFamily("bcd_mirror_pending", "Jobs that MLflow does not have completely.")
    behind.add_metric([], total - mirrored)
    yield behind

    hooks = GaugeMetricFamily("bcd_webhook_deliveries", "Deliveries by state.", labels=["state"])
    for state, count in session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)):
        hooks.add_metric([state], count)
    yield hooks

    events = CounterMetricFamily("bcd_events", "Events written so far.")
    events.add_metric([], session.scalar(select(func.max(Event.id))) or 0)
    yield events
