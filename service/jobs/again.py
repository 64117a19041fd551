"""New jobs from old ones: the same once more (retry), or another one that differs in what a patch says (clone)."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from service.access.principal import Principal
from service.db import Database
from service.errors import Problem
from service.jobs import needs, repository
from service.jobs.options import Options, Origin
from service.jobs.schemas import JobOut
from service.jobs.shown import existing
from service.jobs.submit import submit
from service.models import Job, JobState, Role


def retry(
    db: Database, me: Principal, job_id: str, *, key: str | None = None, from_start: bool = False
) -> tuple[JobOut, bool]:
    """A new job of the same spec and options, which goes on from the newest checkpoint of the one that ended.

    Raises `Problem`: 404, 403, 409 unless the job has failed or was cancelled, 422 where what it needs has failed.
    """
    with db.read() as session:
        parent = existing(session, me, job_id)
        me.require(parent.project_id, Role.EDITOR)
        if parent.state not in (JobState.FAILED, JobState.CANCELLED):
            advice = "resume it" if parent.state == JobState.PAUSED else "clone it to run it again"
            raise Problem(
                409, f"job {job_id} is {parent.state}; only what failed or was cancelled is retried; {advice}"
            )
        after = [one for one in needs.of(session, [job_id])[job_id] if one != parent.teacher_job_id]
        options = _options_of(session, parent).model_copy(update={"after": tuple(after)})
    return submit(db, me, parent.spec, options, key=key, origin=Origin("retry", parent.id, from_start))


def clone(
    db: Database, me: Principal, job_id: str, patch: Any, given: Options, *, key: str | None = None
) -> tuple[JobOut, bool]:
    """A new job of the spec with a JSON merge patch (RFC 7396) applied. Options that are not given are the parent's,
    but it waits for no other job than its teacher unless `after` says so.

    Raises `Problem` as `submit` does, and 404; pointers lead into the patched spec.
    """
    if not isinstance(patch, dict):
        raise Problem(422, "a patch is a JSON object: {} for the same spec, or the keys to change")
    with db.read() as session:
        parent = existing(session, me, job_id)
        options = _options_of(session, parent)
    said = {name: getattr(given, name) for name in given.model_fields_set}
    options = options.model_copy(update=said)
    origin = Origin("clone", parent.id, given=given)
    return submit(db, me, merge_patch(parent.spec, patch), options, key=key, origin=origin)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged, null removes a key, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge_patch(out.get(key), value)
    return out


def _options_of(session: Session, job: Job) -> Options:
    return Options(
        project=job.project_id,
        priority=job.priority,
        tags=tuple(repository.tags_of(session, [job.id])[job.id]),
        group=job.group,
        retries=job.retries,
    )
