"""HTTP routes of lists."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from service.access.principal import Me
from service.conditional import Tags, version_of_all
from service.deps import Db
from service.filters import Filter, parse_filter
from service.filters.language import MAX_LENGTH
from service.lists import service
from service.lists.schemas import FilterFields, JobCounts, JobPage
from service.lists.sorting import DEFAULT, Order, parse_sort
from service.models import JobState
from service.paging import MAX_CURSOR

router = APIRouter(tags=["lists"])


def _filter(
    filter: Annotated[
        str,
        Query(
            description="For example `state:failed method:bckd AP>30 -tag:old`; see /filter-fields.",
            max_length=4 * MAX_LENGTH,
        ),
    ] = "",
) -> Filter:
    return parse_filter(filter)


def _order(
    sort: Annotated[
        str,
        Query(
            max_length=1000,
            description="Up to three keys, `-` for descending: `-best.AP,name`. Jobs without the value come last.",
        ),
    ] = DEFAULT,
) -> Order:
    return parse_sort(sort)


Wanted = Annotated[Filter, Depends(_filter)]
Sorted = Annotated[Order, Depends(_order)]
States = Annotated[list[JobState], Query(description="Only jobs in these states; may be repeated.")]
Metrics = Annotated[
    list[str],
    Query(max_length=50, description="Metrics to show of each job, separated by commas; may be repeated."),
]


@router.get("/jobs", summary="Jobs, newest first")
def list_jobs(
    db: Db,
    me: Me,
    tags: Tags,
    wanted: Wanted,
    order: Sorted,
    state: States = [],  # noqa: B006
    metrics: Metrics = [],  # noqa: B006
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=MAX_CURSOR, description="`next_cursor` of the page before.")] = None,
) -> JobPage:
    keys = [key for part in metrics for key in part.split(",") if key]
    with db.read() as session:
        tags.tag(me, version_of_all(session))
        return service.page(session, me, wanted, state, order, metrics=keys, limit=limit, cursor=cursor)


@router.get("/jobs:count", summary="How many jobs, by state")
def count_jobs(db: Db, me: Me, tags: Tags, wanted: Wanted, state: States = []) -> JobCounts:  # noqa: B006
    with db.read() as session:
        tags.tag(me, version_of_all(session))
        return service.counts(session, me, wanted, state)


@router.get("/filter-fields", summary="What filters and sorting understand")
def filter_fields(db: Db, me: Me) -> FilterFields:
    with db.read() as session:
        return service.filter_fields(session, me)
