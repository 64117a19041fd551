"""HTTP routes of a sweep's driver, which calls them with its own token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from bcd import crash
from bcd.sweep.wire import EndSearch, NewTrial, StopTrial, SweepTicket, TrialState
from service.auth import require_driver
from service.bodies import read_as
from service.deps import Config, Db
from service.errors import Problem
from service.sweeps import driver

# Not in the published document: drivers alone call these, in the version that the dispatcher launched.
router = APIRouter(include_in_schema=False)
Epoch = Annotated[int, Depends(require_driver)]


@router.get("/sweep-drivers/{sweep_id}/ticket")
def get_ticket(db: Db, settings: Config, sweep_id: str, epoch: Epoch) -> SweepTicket:
    with db.write() as session:
        return driver.ticket(session, settings, sweep_id, epoch)


@router.post("/sweep-drivers/{sweep_id}/beat", status_code=204)
def post_beat(db: Db, settings: Config, sweep_id: str, epoch: Epoch) -> Response:
    with db.write() as session:
        driver.beat(session, settings, sweep_id, epoch)
    return Response(status_code=204)


@router.post("/sweep-drivers/{sweep_id}/trials")
def post_trial(
    db: Db, settings: Config, sweep_id: str, epoch: Epoch, wanted: Annotated[NewTrial, Depends(read_as(NewTrial))]
) -> TrialState:
    with db.write() as session:
        made = driver.add(session, settings, sweep_id, epoch, wanted)
    crash.point("trial.committed")
    if isinstance(made, Problem):
        raise made
    return made


@router.get("/sweep-drivers/{sweep_id}/trials/{number}")
def get_trial(
    db: Db,
    settings: Config,
    sweep_id: str,
    number: int,
    epoch: Epoch,
    after: Annotated[int, Query(ge=-1, le=2**31 - 1)] = -1,
) -> TrialState:
    with db.read() as session:
        return driver.look(session, settings, sweep_id, epoch, number, after=after)


@router.post("/sweep-drivers/{sweep_id}/trials/{number}/stop", status_code=204)
def stop_trial(
    db: Db,
    settings: Config,
    sweep_id: str,
    number: int,
    epoch: Epoch,
    wanted: Annotated[StopTrial, Depends(read_as(StopTrial))],
) -> Response:
    with db.write() as session:
        driver.stop(session, settings, sweep_id, epoch, number, wanted.why)
    return Response(status_code=204)


@router.post("/sweep-drivers/{sweep_id}/end", status_code=204)
def end_search(
    db: Db, settings: Config, sweep_id: str, epoch: Epoch, how: Annotated[EndSearch, Depends(read_as(EndSearch))]
) -> Response:
    with db.write() as session:
        driver.end(session, settings, sweep_id, epoch, how)
    return Response(status_code=204)
