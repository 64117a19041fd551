"""What a running attempt gets (its ticket) and what becomes of its records.

Fencing: only the newest attempt of a job may write, and only until it has ended. A batch is one transaction: all of
its records are stored, with the changes of state that they cause, or none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy.orm import Session

from bcd.records import (
    TOTAL_STEPS,
    ArtifactRecord,
    EvaluationRecord,
    FactsRecord,
    LogRecord,
    MetricRecord,
    Record,
    RecordAck,
    RecordBatch,
    StateRecord,
    StoredObject,
    Ticket,
)
from bcd.storage import object_key
from service import storage
from service.attempts import repository
from service.attempts.outcome import asked_of, finish
from service.errors import SEQUENCE_GAP, STALE_ATTEMPT, Problem
from service.jobs.states import move, write_event
from service.models import Artifact, Attempt, Evaluation, Job, JobState, new_id
from service.results import metrics
from service.settings import Settings

KEPT_CHECKPOINTS = 3  # the newest may turn out unreadable; two more to fall back to
CHOSEN_BY = "AP"  # the metric whose best evaluations have their checkpoints kept
LIVE = ("starting", "running")
_MAX_STEP, _MAX_SIZE = 2**31 - 1, 2**63 - 1  # what the columns hold
_EVENT_VALUES = 30  # of the last metrics of a batch: enough for a progress line, not all classes


def ticket(session: Session, settings: Settings, attempt_id: str, *, process: str | None = None) -> Ticket:
    """The ticket of a live attempt, for the first process that asks and for no other one: whatever launches an attempt
    twice, it is trained once. The caller commits.

    Raises `Problem` 404, or 409 (stale) when it is not the job's newest live attempt or another process has it.
    """
    found = repository.lock(session, attempt_id)
    if found is None:
        raise _no_attempt(attempt_id)
    attempt, job = found
    _refuse_stale(attempt, job, attempt.epoch)
    if attempt.process is None:
        attempt.process = process
    elif attempt.process != process:
        detail = f"attempt {attempt.number} of job {job.id} belongs to another process; stop this worker"
        raise Problem(409, detail, type=STALE_ATTEMPT, job_state=job.state)
    teacher = repository.artifacts(session, job.teacher_job_id, "result")[:1] if job.teacher_job_id else []
    checkpoints = repository.artifacts(session, job.id, "checkpoint")[:KEPT_CHECKPOINTS]
    return Ticket(
        job_id=job.id,
        attempt_id=attempt.id,
        number=attempt.number,
        epoch=attempt.epoch,
        spec=job.spec,
        teacher=_stored(teacher[0]) if teacher else None,
        resume=[_stored(row) for row in checkpoints],
        data_roots=list(settings.data_roots),
        next_seq=attempt.acked_seq + 1,
        lease_seconds=settings.lease_seconds,
    )


def apply_records(session: Session, settings: Settings, attempt_id: str, batch: RecordBatch) -> RecordAck:
    """Store a batch and extend the attempt's lease; the caller commits. A record with an acknowledged seq is skipped.

    Raises `Problem`: 404; 409 `urn:bcd:stale-attempt` when the attempt has ended or a newer one exists; 409
    `urn:bcd:sequence-gap` with `expected_seq`; 422 for records that contradict themselves.
    """
    found = repository.lock(session, attempt_id)
    if found is None:
        raise _no_attempt(attempt_id)
    attempt, job = found
    if _is_replay_of_the_end(attempt, job, batch):
        return RecordAck(acked=attempt.acked_seq, cancel=False, lease_seconds=settings.lease_seconds)
    _refuse_stale(attempt, job, batch.epoch)
    new = _unseen(attempt.acked_seq, batch.records)
    now = time.time()

    if any(isinstance(record, StateRecord) for record in new):
        _start(session, attempt, job, now)
    _store_metrics(session, attempt, job, [r for r in new if isinstance(r, MetricRecord)])
    _store_logs(session, attempt, [r for r in new if isinstance(r, LogRecord)])
    _store_artifacts(session, settings, attempt, job, [r for r in new if isinstance(r, ArtifactRecord)], now)
    for record in new:
        if isinstance(record, EvaluationRecord):
            _store_evaluation(session, attempt, job, record, now)
        elif isinstance(record, FactsRecord):
            data = {"attempt": attempt.number, "values": record.values}
            write_event(session, "job.facts", job, actor="worker", data=data)
    if new:
        attempt.acked_seq = new[-1].seq
        if isinstance(new[-1], StateRecord) and new[-1].state != "running":
            _end(session, settings, attempt, job, new[-1], now)
    attempt.lease_until = now + settings.lease_seconds
    session.flush()
    return RecordAck(acked=attempt.acked_seq, cancel=asked_of(job) is not None, lease_seconds=settings.lease_seconds)


# ------------------------------------------------------------------------------------------- what is accepted


def _no_attempt(attempt_id: str) -> Problem:
    return Problem(404, f"there is no attempt {attempt_id!r}")


def _refuse_stale(attempt: Attempt, job: Job, epoch: int) -> None:
    if attempt.state not in LIVE:
        detail = f"attempt {attempt.number} of job {job.id} has ended ({attempt.state}); stop this worker"
    elif epoch != attempt.epoch or attempt.epoch != job.epoch:
        detail = f"attempt {attempt.number} of job {job.id} is not the newest one; stop this worker"
    else:
        return
    raise Problem(409, detail, type=STALE_ATTEMPT, job_state=job.state)


def _is_replay_of_the_end(attempt: Attempt, job: Job, batch: RecordBatch) -> bool:
    """The worker's last batch once more, because our answer was lost: that is no fault."""
    ended_by_worker = attempt.state in ("succeeded", "failed", "cancelled", "paused")
    current = batch.epoch == attempt.epoch == job.epoch
    return ended_by_worker and current and bool(batch.records) and batch.records[-1].seq <= attempt.acked_seq


def _unseen(acked: int, records: Sequence[Record]) -> list[Record]:
    """The records beyond `acked`, which must follow it without a gap."""
    new = [record for record in records if record.seq > acked]
    for expected, record in enumerate(new, start=acked + 1):
        if record.seq != expected:
            detail = f"record {expected} is missing before record {record.seq}; send from {expected} on"
            raise Problem(409, detail, type=SEQUENCE_GAP, expected_seq=expected)
    if any(isinstance(record, StateRecord) and record.state != "running" for record in new[:-1]):
        raise Problem(422, "a record follows the one that ended the attempt; the terminal state must be the last")
    for record in new:
        _refuse_unfit(record)
    return new


def _refuse_unfit(record: Record) -> None:
    if isinstance(record, MetricRecord | ArtifactRecord | EvaluationRecord) and record.step > _MAX_STEP:
        raise Problem(422, f"record {record.seq}: step {record.step} is larger than {_MAX_STEP}")
    if isinstance(record, ArtifactRecord):
        if record.size > _MAX_SIZE:
            raise Problem(422, f"record {record.seq}: size {record.size} is larger than {_MAX_SIZE}")
        if record.key != object_key(record.sha256):
            raise Problem(422, f"record {record.seq}: the key is not that of content {record.sha256}")


# --------------------------------------------------------------------------------------------- what is stored


def _store_metrics(session: Session, attempt: Attempt, job: Job, records: Sequence[MetricRecord]) -> None:
    if not records:
        return
    values = {
        (key, record.step): metrics.Value(value, record.time)
        for record in records
        for key, value in record.values.items()
    }
    metrics.store(session, job.id, attempt.number, values)
    last = records[-1]
    job.step = last.step
    for record in records:
        job.total_steps = int(record.values.get(TOTAL_STEPS, job.total_steps))
    shown = dict(list(last.values.items())[:_EVENT_VALUES])
    write_event(session, "job.metrics", job, actor="worker", data={"step": last.step, "values": shown})


def _store_logs(session: Session, attempt: Attempt, records: Sequence[LogRecord]) -> None:
    repository.insert_logs(
        session,
        [
            {
                "job_id": attempt.job_id,
                "attempt_id": attempt.id,
                "seq": record.seq,
                "time": record.time,
                "level": record.level,
                "text": record.text,
            }
            for record in records
        ],
    )


def _store_artifacts(
    session: Session, settings: Settings, attempt: Attempt, job: Job, records: Sequence[ArtifactRecord], now: float
) -> None:
    dropped: set[str] = set()
    for record in records:
        row = repository.artifact(session, attempt.job_id, record.type, record.name)
        if row is None:
            row = Artifact(id=new_id("art"), job_id=attempt.job_id, type=record.type, name=record.name)
            session.add(row)
        elif row.key != record.key:
            dropped.add(row.key)
        row.attempt_id, row.step, row.created_at = attempt.id, record.step, now
        row.sha256, row.size, row.key = record.sha256, record.size, record.key
        data = {"id": row.id, **record.model_dump(include={"type", "name", "step", "sha256", "size"})}
        write_event(session, "job.artifact", job, actor="worker", data=data)
    if any(record.type == "checkpoint" for record in records):
        session.flush()
        old = _beyond_kept(session, settings, attempt.job_id)
        dropped |= {row.key for row in old}
        repository.delete_artifacts(session, [row.id for row in old])
    _remove_after_commit(session, settings, dropped)


def _beyond_kept(session: Session, settings: Settings, job_id: str) -> Sequence[Artifact]:
    """Checkpoints to drop: all but the newest, and those nearest to the best evaluations."""
    checkpoints = repository.artifacts(session, job_id, "checkpoint")
    old = checkpoints[KEPT_CHECKPOINTS:]
    if old and settings.keep_best:
        best = metrics.best_steps(session, job_id, CHOSEN_BY, settings.keep_best)
        nearest = {min(checkpoints, key=lambda row: (abs(row.step - step), row.step)).id for step in best}
        old = [row for row in old if row.id not in nearest]
    return old


def _remove_after_commit(session: Session, settings: Settings, keys: set[str]) -> None:
    """Delete the files of keys that no artifact names any more, once the rows are gone for good.

    Another job that stores the very same content in between loses that one file; a run then falls back to an older
    checkpoint. Results are never dropped here unless their own job replaces them.
    """
    if not keys:
        return
    session.flush()
    storage.remove_after_commit(session, settings, keys - repository.keys_in_use(session, keys))


def _store_evaluation(session: Session, attempt: Attempt, job: Job, record: EvaluationRecord, now: float) -> None:
    row = repository.evaluation(session, attempt.job_id, record.name)
    if row is None:
        row = Evaluation(id=new_id("eval"), job_id=attempt.job_id, name=record.name)
        session.add(row)
    row.attempt_id, row.step, row.created_at = attempt.id, record.step, now
    row.protocol, row.results = record.protocol, record.results
    scalars = {key: value for key, value in record.results.items() if value is None or isinstance(value, int | float)}
    data = {"name": record.name, "step": record.step, "protocol": record.protocol, "results": scalars}
    write_event(session, "job.evaluation", job, actor="worker", data=data)


def _start(session: Session, attempt: Attempt, job: Job, now: float) -> None:
    if attempt.started_at is None:
        attempt.state, attempt.started_at = "running", now
        if job.state == JobState.STARTING:
            move(session, job, JobState.RUNNING, actor="worker", attempt_id=attempt.id)


def _end(session: Session, settings: Settings, attempt: Attempt, job: Job, record: StateRecord, now: float) -> None:
    attempt.ended_at = now
    finish(session, settings, attempt, job, record)


def _stored(row: Artifact) -> StoredObject:
    return StoredObject(key=row.key, sha256=row.sha256, size=row.size, step=row.step)
