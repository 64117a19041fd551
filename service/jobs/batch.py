"""One verb for many jobs, each in a transaction of its own: what is refused for one changes nothing for the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.bodies import checked
from service.db import Database
from service.errors import Problem
from service.filters import parse_filter
from service.filters.language import MAX_LENGTH
from service.jobs import again, verbs
from service.jobs.options import Group, Id, Priority, Tag
from service.jobs.repository import tags_of
from service.jobs.shown import to_change
from service.models import Job

log = logging.getLogger("bcd.api")

MOST = 500
Words = Annotated[tuple[Tag, ...], Field(max_length=20)]


class Batch(BaseModel):
    """One verb for many jobs. `change` takes priority, group, add_tags and remove_tags; `retry` takes from_start."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    verb: Literal["cancel", "pause", "resume", "retry", "change"]
    ids: Annotated[tuple[Id, ...], Field(max_length=MOST)] = ()
    filter: Annotated[str, Field(max_length=4 * MAX_LENGTH)] | None = Field(
        None, description=f"In place of ids: all jobs that it finds, {MOST} at most (see /filter-fields)."
    )
    priority: Priority | None = None
    group: Group | None = None
    add_tags: Words = ()
    remove_tags: Words = ()
    from_start: bool = False

    @model_validator(mode="after")
    def _fits_the_verb(self) -> Batch:
        if bool(self.ids) == bool(self.filter and self.filter.strip()):
            raise ValueError("give ids or a filter, one of them and not empty")
        changes = self.model_fields_set & {"priority", "group", "add_tags", "remove_tags"}
        if self.verb == "change" and not changes:
            raise ValueError("change needs one of priority, group, add_tags and remove_tags")
        if self.verb != "change" and changes:
            raise ValueError(f"{', '.join(sorted(changes))}: only for the verb change, not for {self.verb}")
        if self.verb != "retry" and self.from_start:
            raise ValueError(f"from_start: only for the verb retry, not for {self.verb}")
        return self


class Outcome(BaseModel):
    """What became of one of the jobs: its state now, or the problem for which nothing of it was changed."""

    id: str
    state: str | None = None
    job_id: str | None = Field(None, description="The new job that a retry made.")
    problem: dict[str, Any] | None = Field(None, description="`status` and `detail`, as a request of its own gives.")


class Outcomes(BaseModel):
    items: list[Outcome] = Field(description="One for each distinct id, in the order in which they were given.")


def run(db: Database, me: Principal, batch: Batch, *, key: str | None = None) -> Outcomes:
    """Do it to one job after another. With an idempotency key a repeated batch retries no job twice."""
    act = _action(db, me, batch, key)
    items: list[Outcome] = []
    away: Problem | None = None
    for job_id in _ids(db, me, batch):
        try:
            if away is not None:
                raise away
            items.append(act(job_id))
        except Problem as problem:
            items.append(_refused(job_id, problem))
        except (DBAPIError, PoolTimeout) as error:
            log.error("the database refused %s of job %s: %s", batch.verb, job_id, error)
            silent = Problem(503, "the database does not answer right now; nothing was changed, try again")
            items.append(_refused(job_id, silent))
            if not isinstance(error, DBAPIError) or error.connection_invalidated:
                away = silent  # each further one would wait as long for nothing
    return Outcomes(items=items)


def _ids(db: Database, me: Principal, batch: Batch) -> list[str]:
    """The jobs meant, each once. Raises `Problem` 422 for a bad filter, or one that finds too many."""
    if batch.filter is None:
        return list(dict.fromkeys(batch.ids))
    condition = parse_filter(batch.filter, pointer="/filter").condition()
    query = select(Job.id).where(me.visible(Job.project_id), condition).order_by(Job.created_at, Job.id)
    with db.read() as session:
        found = list(session.scalars(query.limit(MOST + 1)))
    if len(found) > MOST:
        message = f"it finds more than {MOST} jobs: narrow it down, or do it in parts"
        raise Problem(422, f"filter: {message}", errors=[("/filter", message)])
    return found


def _refused(job_id: str, problem: Problem) -> Outcome:
    return Outcome(id=job_id, problem={"status": problem.status, "detail": problem.detail})


def _action(db: Database, me: Principal, batch: Batch, key: str | None) -> Callable[[str], Outcome]:
    if batch.verb == "retry":

        def retry(job_id: str) -> Outcome:
            own_key = f"{key}:{job_id}" if key is not None else None
            job, _ = again.retry(db, me, job_id, key=own_key, from_start=batch.from_start)
            return Outcome(id=job_id, state=job.state, job_id=job.id)

        return retry

    change: Callable[[Session, Principal, str], Job] = {
        "cancel": verbs.cancel,
        "pause": verbs.pause,
        "resume": verbs.resume,
        "change": lambda session, me, job_id: verbs.change(session, me, job_id, _change(session, me, job_id, batch)),
    }[batch.verb]

    def act(job_id: str) -> Outcome:
        with db.write() as session:
            return Outcome(id=job_id, state=change(session, me, job_id).state)

    return act


def _change(session: Session, me: Principal, job_id: str, batch: Batch) -> verbs.Change:
    """What the batch means for one job: tags are added to and removed from those that it has."""
    given: dict[str, Any] = batch.model_dump(include=batch.model_fields_set & {"priority", "group"})
    if batch.add_tags or batch.remove_tags:
        to_change(session, me, job_id)  # locked before it is read
        have = set(tags_of(session, [job_id])[job_id])
        given["tags"] = sorted((have | set(batch.add_tags)) - set(batch.remove_tags))
    return checked(verbs.Change, given)
