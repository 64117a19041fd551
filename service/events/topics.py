"""Which events a stream carries: types, of all jobs or of some."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, and_, or_, true

from service.errors import Problem
from service.models import Event

TYPES = ("job.state", "job.changed", "job.facts", "job.metrics", "job.artifact", "job.evaluation", "sweep.state")
ALL = "*"
MAX_TOPICS = 250


@dataclass(frozen=True)
class Topics:
    """`types` of any job, or what `of_jobs` says by type (or `*`): of these jobs. Nothing at all: everything."""

    types: Sequence[str] = ()
    of_jobs: dict[str, list[str]] = field(default_factory=dict)

    @property
    def job_ids(self) -> set[str]:
        return {id for ids in self.of_jobs.values() for id in ids}

    def condition(self) -> ColumnElement[bool]:
        if not self.types and not self.of_jobs:
            return true()
        ways = [
            Event.job_id.in_(ids) if type == ALL else and_(Event.type == type, Event.job_id.in_(ids))
            for type, ids in self.of_jobs.items()
        ]
        return or_(*([Event.type.in_(self.types)] if self.types else []), *ways)


def parse_topics(given: Sequence[str]) -> Topics:
    """What `job.state,job.metrics:job_1,*:job_2` means, in one text or several. Raises `Problem` 422."""
    topics = [topic for text in given for topic in text.split(",") if topic]
    types, of_jobs = set[str](), defaultdict[str, list[str]](list)
    for topic in topics:
        type, colon, job_id = topic.partition(":")
        if type not in (*TYPES, ALL) or (type == ALL and not job_id) or (colon and not job_id):
            raise _fault(f"{topic[:80]!r} is no topic; use a type ({', '.join(TYPES)}), TYPE:JOB or *:JOB")
        if job_id:
            of_jobs[type].append(job_id)
        else:
            types.add(type)
    if len(topics) > MAX_TOPICS:
        raise _fault(f"{len(topics)} topics are given, at most {MAX_TOPICS} are followed; name types without jobs")
    return Topics(sorted(types), dict(of_jobs))


def _fault(message: str) -> Problem:
    return Problem(422, f"topics: {message}", errors=[("?topics", message)])
