"""Reading the summaries of series: what tables of jobs show for each metric."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.models import Series
from service.results.schemas import Summary


def summaries(session: Session, job_ids: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, Summary]]:
    """The summaries of these metrics by job and key, for every job; a metric that it never reported is left out."""
    found: dict[str, dict[str, Summary]] = {job_id: {} for job_id in job_ids}
    if not keys or not job_ids:
        return found
    s = Series
    columns = (s.job_id, s.key, s.last_value, s.last_step, s.best_value, s.best_step, s.count)
    rows = session.execute(select(*columns).where(s.job_id.in_(job_ids), s.key.in_(keys)))
    for job_id, key, last, last_step, best, best_step, count in rows:
        found[job_id][key] = Summary(last=last, last_step=last_step, best=best, best_step=best_step, count=count)
    return found
