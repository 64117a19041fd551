"""Jobs over the API: submit, change, list, look, compare, download."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx

from bcd.spec import JobSpec
from service.client.base import Api, json_of, segment
from service.client.errors import ServiceUnavailable
from service.client.types import Artifact, Job, JobPage, JobRow, LogPage, Outcome, Series

Verb = Literal["cancel", "pause", "resume", "retry", "change"]


class Jobs(Api):
    """What can be done with jobs. Raises `ApiError` where the service refuses, `ServiceUnavailable` where it is not."""

    def submit(
        self,
        spec: JobSpec | Mapping[str, Any],
        idempotency_key: str | None = None,
        *,
        project: str | None = None,
        priority: int | None = None,
        tags: Sequence[str] = (),
        group: str | None = None,
        after: Sequence[str] = (),
        retries: int | None = None,
    ) -> Job:
        """Hand in a job. Safe to repeat with the same key; without one a fresh key guards this call alone.

        `after`: ids of jobs that must have succeeded first; `retries`: how often a failure of the job itself is tried
        again; `priority`: higher goes first.
        """
        params = _options(project=project, priority=priority, tags=tags, group=group, after=after, retries=retries)
        job: Job = self._make("/api/v1/jobs", _plain(spec), idempotency_key, params)
        return job

    def validate(self, spec: JobSpec | Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """What a submission would do, cost and be refused for; stores nothing. `options` as of `submit`."""
        answer = self._request("POST", "/api/v1/jobs:validate", json=_plain(spec), params=_options(**options))
        found: dict[str, Any] = json_of(answer)
        return found

    def clone(self, job_id: str, changes: Mapping[str, Any], idempotency_key: str | None = None, **options: Any) -> Job:
        """A new job of the same spec with a JSON merge patch applied. Options not given are those of the original."""
        path = f"/api/v1/jobs/{segment(job_id)}/clone"
        job: Job = self._make(path, dict(changes), idempotency_key, _options(**options))
        return job

    def retry(self, job_id: str, idempotency_key: str | None = None, *, from_start: bool = False) -> Job:
        """A new job that goes on from the newest checkpoint of one that failed or was cancelled."""
        params = {"from_start": from_start} if from_start else {}
        job: Job = self._make(f"/api/v1/jobs/{segment(job_id)}/retry", None, idempotency_key, params)
        return job

    def cancel(self, job_id: str) -> Job:
        return self._verb(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Stop a job at a checkpoint; `resume` lets it go on."""
        return self._verb(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        return self._verb(job_id, "resume")

    def change(self, job_id: str, **changes: Any) -> Job:
        """Change `priority`, `tags` (all of them) or `group`."""
        job: Job = self._post(f"/api/v1/jobs/{segment(job_id)}", changes, method="PATCH")
        return job

    def batch(self, verb: Verb, ids: Sequence[str] = (), *, filter: str | None = None, **more: Any) -> list[Outcome]:
        """One verb for up to 500 jobs, given by ids or by a filter; each succeeds or fails by itself.

        `more`: priority, group, add_tags and remove_tags with `change`; from_start with `retry`.
        """
        body = {"verb": verb, **({"filter": filter} if filter is not None else {"ids": list(ids)}), **more}
        items: list[Outcome] = self._post("/api/v1/jobs:batch", body)["items"]
        return items

    # ------------------------------------------------------------------------------------------------ looking

    def job(self, job_id: str) -> Job:
        job: Job = self._get(f"/api/v1/jobs/{segment(job_id)}")
        return job

    def jobs(
        self,
        *,
        filter: str | None = None,
        state: str | None = None,
        sort: str | None = None,
        metrics: Sequence[str] = (),
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """One page of jobs: `filter` such as `state:failed AP>30`, `sort` such as `-best.AP`; newest first."""
        page: JobPage = self._get(
            "/api/v1/jobs", filter=filter, state=state, sort=sort, metrics=",".join(metrics) or None, limit=limit,
            cursor=cursor,
        )  # fmt: skip
        return page

    def each_job(self, **wanted: Any) -> Iterator[JobRow]:
        """All jobs of a list, page after page; `wanted` as of `jobs`."""
        page = self.jobs(**{"limit": 200, **wanted})
        while True:
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            page = self.jobs(**{"limit": 200, **wanted}, cursor=page["next_cursor"])

    def count(self, filter: str | None = None) -> dict[str, int]:
        """How many jobs there are, by state."""
        found: dict[str, int] = self._get("/api/v1/jobs:count", filter=filter)["by_state"]
        return found

    def history(self, job_id: str, *, after: int | None = None) -> list[dict[str, Any]]:
        """What happened to a job, oldest first (up to 200 events behind `after`)."""
        items: list[dict[str, Any]] = self._get(f"/api/v1/jobs/{segment(job_id)}/events", after=after)["items"]
        return items

    def metrics(
        self, job_id: str, *, keys: Sequence[str] | None = None, after_step: int | None = None
    ) -> dict[str, Series]:
        """Series by key. `keys`: only these; `after_step`: only later steps."""
        found: dict[str, Series] = self._get(
            f"/api/v1/jobs/{segment(job_id)}/metrics", key=list(keys) if keys else None, after_step=after_step
        )["series"]
        return found

    def curves(self, runs: Sequence[str], metrics: Sequence[str], **more: Any) -> dict[str, Any]:
        """Curves of several runs in buckets, averaged over seeds where asked (`group="seed"`); see /series:query."""
        found: dict[str, Any] = self._post(
            "/api/v1/series:query", {"runs": list(runs), "metrics": list(metrics), **more}
        )
        return found

    def table(self, runs: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
        """Last and best value of each metric of each run."""
        found: dict[str, Any] = self._post("/api/v1/series:table", {"runs": list(runs), "metrics": list(metrics)})
        return found

    def logs(
        self,
        job_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        tail: int | None = None,
        attempt: int | None = None,
        level: str | None = None,
        q: str | None = None,
    ) -> LogPage:
        """Log lines: behind `after`, before `before`, or the last `tail`; of one attempt, level and up, holding `q`."""
        page: LogPage = self._get(
            f"/api/v1/jobs/{segment(job_id)}/logs", after=after, before=before, tail=tail, attempt=attempt,
            level=level, q=q,
        )  # fmt: skip
        return page

    def evaluations(self, job_id: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._get(f"/api/v1/jobs/{segment(job_id)}/evaluations")["items"]
        return items

    def artifacts(self, job_id: str) -> list[Artifact]:
        items: list[Artifact] = self._get(f"/api/v1/jobs/{segment(job_id)}/artifacts")["items"]
        return items

    def mlflow(self, job_id: str) -> dict[str, Any]:
        """Where the job is in MLflow, and whether its copy is complete."""
        found: dict[str, Any] = self._get(f"/api/v1/jobs/{segment(job_id)}/mlflow")
        return found

    def compare(self, job_ids: Iterable[str]) -> dict[str, Any]:
        """The comparison of several finished jobs: groups over seeds, differences, intervals, verdicts."""
        found: dict[str, Any] = self._get("/api/v1/compare", ids=",".join(job_ids))
        return found

    def compare_parts(self, job_ids: Iterable[str]) -> dict[str, Any]:
        """The same comparison for each class and each size of objects."""
        found: dict[str, Any] = self._get("/api/v1/compare/parts", ids=",".join(job_ids))
        return found

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = self._get("/api/v1/schema")
        return found

    def download(self, artifact: Artifact, path: Path) -> Path:
        """Write the artifact to the file `path`; it appears only when complete and its hash is right."""
        part = path.with_name(path.name + ".part")
        digest = hashlib.sha256()
        try:
            address = f"/api/v1/artifacts/{segment(artifact['id'])}/content"
            with self._stream(address) as response, part.open("wb") as file:
                for block in response.iter_bytes():
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != artifact["sha256"]:
                raise ServiceUnavailable(f"{artifact['name']} arrived damaged (its hash differs): try again")
            part.replace(path)
        except httpx.TransportError as error:
            raise ServiceUnavailable(f"the download of {artifact['name']} broke off: {error}") from None
        finally:
            part.unlink(missing_ok=True)
        return path

    # -------------------------------------------------------------------------------------------- plumbing

    def _verb(self, job_id: str, verb: str) -> Job:
        job: Job = self._post(f"/api/v1/jobs/{segment(job_id)}/{verb}")
        return job


def _plain(spec: JobSpec | Mapping[str, Any]) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude_unset=True) if isinstance(spec, JobSpec) else dict(spec)


def _options(*, tags: Sequence[str] = (), after: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """Query parameters of a submission; what was not given is left out."""
    given = {key: value for key, value in more.items() if value is not None}
    return given | ({"tag": list(tags)} if tags else {}) | ({"after": list(after)} if after else {})
