"""HTTP routes of attempts: what a worker calls with its own token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import ValidationError

from bcd import crash
from bcd.records import RecordAck, RecordBatch, Ticket
from service.attempts import service
from service.deps import Config, Db
from service.errors import from_validation, parse_json, read_body

# Not in the published document: workers alone call these, in the version that the dispatcher launched.
router = APIRouter(include_in_schema=False)


@router.get("/attempts/{attempt_id}/ticket")
def get_ticket(db: Db, settings: Config, attempt_id: str) -> Ticket:
    with db.read() as session:
        return service.ticket(session, settings, attempt_id)


@router.post("/attempts/{attempt_id}/records")
def post_records(db: Db, settings: Config, attempt_id: str, raw: Annotated[bytes, Depends(read_body)]) -> RecordAck:
    """What the attempt did; no records: a heartbeat."""
    # clean: a refused log line would block everything behind it for good
    value = parse_json(raw, clean=True)
    try:
        batch = RecordBatch.model_validate(value)
    except ValidationError as error:
        raise from_validation([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from None
    with db.write() as session:
        ack = service.apply_records(session, settings, attempt_id, batch)
        crash.point("records.applied")
    crash.point("records.committed")
    return ack
