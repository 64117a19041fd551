"""HTTP routes of attempts: what a worker calls with its own token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header

from bcd import crash
from bcd.records import RecordAck, RecordBatch, Ticket
from service.attempts import service
from service.bodies import checked
from service.deps import Config, Db
from service.errors import parse_json, read_body

# Not in the published document: workers alone call these, in the version that the dispatcher launched.
router = APIRouter(include_in_schema=False)


@router.get("/attempts/{attempt_id}/ticket")
def get_ticket(
    db: Db,
    settings: Config,
    attempt_id: str,
    process: Annotated[str | None, Header(alias="X-Process", min_length=1, max_length=200)] = None,
) -> Ticket:
    """`X-Process` (host/pid/birth) binds the attempt to the first process that asks."""
    with db.write() as session:
        return service.ticket(session, settings, attempt_id, process=process)


@router.post("/attempts/{attempt_id}/records")
def post_records(db: Db, settings: Config, attempt_id: str, raw: Annotated[bytes, Depends(read_body)]) -> RecordAck:
    """What the attempt did; no records: a heartbeat."""
    # clean: a refused log line would block everything behind it for good
    batch = checked(RecordBatch, parse_json(raw, clean=True))
    with db.write() as session:
        ack = service.apply_records(session, settings, attempt_id, batch)
        crash.point("records.applied")
    crash.point("records.committed")
    return ack
