"""Artifacts of a job, and the file behind one."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from bcd.storage import CorruptObject, StorageUnavailable, Store
from service import storage
from service.access.principal import Principal
from service.errors import Problem
from service.models import Artifact, Job
from service.settings import Settings

log = logging.getLogger("bcd.api")


def list_of_job(session: Session, job_id: str) -> Sequence[Artifact]:
    """Artifacts in the order of their steps."""
    query = select(Artifact).where(Artifact.job_id == job_id)
    return session.scalars(query.order_by(Artifact.step, Artifact.type, Artifact.name)).all()


def existing(session: Session, me: Principal, artifact_id: str) -> Artifact:
    """The artifact. Raises `Problem` 404, also where the caller may not look at its project."""
    row = session.get(Artifact, artifact_id)
    job = session.get(Job, row.job_id) if row is not None else None
    if row is None or job is None or me.role_in(job.project_id) is None:
        raise Problem(404, f"there is no artifact {artifact_id!r}; a job keeps only its newest checkpoints")
    return row


def require_stored(settings: Settings, row: Artifact) -> Store:
    """The store that holds the file. Raises `Problem`: 410 when storage has lost it or holds another size, 503 when
    storage cannot be asked.
    """
    store = storage.of(settings)
    with storage_faults(row):
        size = store.size(row.key)
    if size is None:
        raise Problem(410, f"the file of artifact {row.id} is gone from storage")
    if size != row.size:
        raise Problem(410, f"the file of artifact {row.id} is damaged: {size} bytes in storage, {row.size} expected")
    return store


@contextlib.contextmanager
def storage_faults(row: Artifact) -> Iterator[None]:
    """What storage raises, as a problem."""
    try:
        yield
    except CorruptObject as error:
        log.error("artifact %s cannot be read: %s", row.id, error)
        raise Problem(410, f"the file of artifact {row.id} is gone from storage") from error
    except StorageUnavailable as error:
        log.error("artifact %s cannot be read now: %s", row.id, error)
        detail = "storage does not answer right now; the file is not lost, try again"
        raise Problem(503, detail, headers={"Retry-After": "5"}) from error


def download_name(job_id: str, name: str) -> str:
    """A file name that is harmless on every system and in a header."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", f"{job_id}-{name}").lstrip(".-")
    return plain[:200] or "artifact"
