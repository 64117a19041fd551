"""The few calls of MLflow's REST API (2.0) that the mirror makes.

Plain HTTP instead of MLflow's client: that one takes seconds and 150 MB to import, and retries for minutes by default.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import httpx

NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
ALREADY = "RESOURCE_ALREADY_EXISTS"
BATCH_ALL, BATCH_OTHERS = 1000, 100  # MLflow's limits of one log-batch: of everything; of parameters and of tags
BATCH_HISTORY = 25_000  # values that it tells at once
LONGEST_KEY, LONGEST_TAG, LONGEST_PARAM = 250, 8000, 6000  # characters that MLflow keeps
# Seconds. A server that takes ten for an answer is slow, not away: it still gets its copy, if slowly.
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
UPLOAD_TIMEOUT = httpx.Timeout(120.0, connect=5.0)


class MlflowAway(Exception):
    """MLflow does not answer, or not sensibly. `everywhere`: no other request would fare better now."""

    def __init__(self, message: str, *, everywhere: bool = False):
        self.everywhere = everywhere
        super().__init__(message)


class MlflowRefused(Exception):
    """MLflow understood and said no; `code` is its own error code."""

    def __init__(self, code: str, message: str):
        self.code = code
        super().__init__(f"{code}: {message}")


class Metric(NamedTuple):
    """One value as MLflow keeps it; `time` in milliseconds."""

    key: str
    step: int
    value: float
    time: int


@dataclass(frozen=True)
class Run:
    """A run as MLflow has it; of each metric it only tells the key."""

    id: str
    name: str
    status: str
    start: int
    end: int | None
    active: bool
    params: dict[str, str]
    tags: dict[str, str]
    metric_keys: frozenset[str]


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    version: str
    run: str
    tags: dict[str, str]


class Mlflow:
    """One MLflow tracking server. All calls raise `MlflowAway` or `MlflowRefused`. Times are Unix seconds."""

    def __init__(
        self, url: str, *, timeout: httpx.Timeout | float = TIMEOUT, transport: httpx.BaseTransport | None = None
    ):
        self._http = httpx.Client(base_url=url, timeout=timeout, transport=transport, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def answers(self) -> bool:
        try:
            return self._http.get("/health", timeout=httpx.Timeout(15.0, connect=2.0)).is_success
        except httpx.HTTPError:
            return False

    # ------------------------------------------------------------------------------------------- experiments

    def find_experiment(self, name: str) -> str | None:
        """The id of the experiment, None also where it is deleted."""
        found = self._experiment(name)
        return None if found is None or found.get("lifecycle_stage") == "deleted" else str(found["experiment_id"])

    def experiment(self, name: str) -> str:
        """The id of the experiment, made or restored where needed. Where its files are is MLflow's own choice."""
        found = self._experiment(name)
        if found is None:
            return str(self._call("POST", "experiments/create", {"name": name})["experiment_id"])
        if found.get("lifecycle_stage") == "deleted":
            self._call("POST", "experiments/restore", {"experiment_id": found["experiment_id"]})
        return str(found["experiment_id"])

    def _experiment(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._call("GET", "experiments/get-by-name", params={"experiment_name": name})
        except MlflowRefused as error:
            if error.code != NOT_THERE:
                raise
            return None
        experiment: dict[str, Any] = found["experiment"]
        return experiment

    # -------------------------------------------------------------------------------------------------- runs

    def find_runs(self, experiments: Sequence[str], tag: str, value: str) -> list[Run]:
        """The runs with this tag, oldest first. `value` is one of our ids: it holds no quote."""
        query = {"experiment_ids": list(experiments), "filter": f"tags.`{tag}` = '{value}'", "max_results": 100}
        found = [_run(run) for run in self._call("POST", "runs/search", query).get("runs", [])]
        return sorted(found, key=lambda run: (run.start, run.id))

    def runs(self, experiments: Sequence[str], ids: Sequence[str]) -> dict[str, Run]:
        """Those of up to a thousand runs that are there and not deleted, by id."""
        wanted = ",".join(f"'{id}'" for id in ids)
        query = {"experiment_ids": list(experiments), "filter": f"attributes.run_id IN ({wanted})", "max_results": 1000}
        found = [_run(run) for run in self._call("POST", "runs/search", query).get("runs", [])] if ids else []
        return {run.id: run for run in found}

    def all_runs(self, experiment: str, page: int = 200) -> Iterator[list[Run]]:
        """All runs of an experiment that are not deleted, some at a time."""
        query: dict[str, Any] = {"experiment_ids": [experiment], "max_results": page, "order_by": ["start_time"]}
        while True:
            answer = self._call("POST", "runs/search", query)
            yield [_run(run) for run in answer.get("runs", [])]
            if not answer.get("next_page_token"):
                return
            query["page_token"] = answer["next_page_token"]

    def run(self, id: str) -> Run | None:
        """One run, also when it is deleted."""
        try:
            return _run(self._call("GET", "runs/get", params={"run_id": id})["run"])
        except MlflowRefused as error:
            if error.code == NOT_THERE:
                return None
            raise

    def create_run(self, experiment: str, name: str, start: float, tags: Mapping[str, str]) -> str:
        body = {"experiment_id": experiment, "run_name": name, "start_time": int(start * 1000), "tags": _pairs(tags)}
        return str(self._call("POST", "runs/create", body)["run"]["info"]["run_id"])

    def update_run(self, run: str, status: str, end: float | None) -> None:
        body: dict[str, Any] = {"run_id": run, "status": status}
        self._call("POST", "runs/update", body if end is None else {**body, "end_time": int(end * 1000)})

    def delete_run(self, run: str) -> None:
        self._call("POST", "runs/delete", {"run_id": run})

    def log(
        self,
        run: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add to a run. The same again is harmless: MLflow keeps one of equal metrics; tags are replaced."""
        rows = [{"key": m.key, "step": m.step, "value": m.value, "timestamp": m.time} for m in metrics]
        pairs, marks = _pairs(params or {}), _pairs(tags or {})
        while rows or pairs or marks:
            body = {"run_id": run, "params": pairs[:BATCH_OTHERS], "tags": marks[:BATCH_OTHERS]}
            room = BATCH_ALL - len(body["params"]) - len(body["tags"])
            self._call("POST", "runs/log-batch", {**body, "metrics": rows[:room]})
            rows, pairs, marks = rows[room:], pairs[BATCH_OTHERS:], marks[BATCH_OTHERS:]

    def delete_tag(self, run: str, key: str) -> None:
        try:
            self._call("POST", "runs/delete-tag", {"run_id": run, "key": key})
        except MlflowRefused as error:
            if error.code != NOT_THERE:
                raise

    def history(self, run: str, key: str) -> Iterator[Metric]:
        """Every value of a metric."""
        page = ""
        while True:
            params = {"run_id": run, "metric_key": key, "max_results": "10000"}
            found = self._call("GET", "metrics/get-history", params=params | ({"page_token": page} if page else {}))
            for one in found.get("metrics", []):
                yield _metric(one)
            page = found.get("next_page_token", "")
            if not page:
                return

    def histories(self, runs: Sequence[str], key: str) -> dict[str, list[Metric]]:
        """Every value of a metric in up to a hundred runs, by run: the question that MLflow's own pages ask."""
        params = httpx.QueryParams({"metric_key": key, "max_results": BATCH_HISTORY, "run_id": list(runs)})
        url = httpx.URL("/ajax-api/2.0/mlflow/metrics/get-history-bulk", params=params)
        rows = self._send(self._http.build_request("GET", url)).get("metrics", [])
        if len(rows) >= BATCH_HISTORY:  # there may be more
            return {run: list(self.history(run, key)) for run in runs}
        found: dict[str, list[Metric]] = {run: [] for run in runs}
        for one in rows:
            found[one["run_id"]].append(_metric(one))
        return found

    # ----------------------------------------------------------------------------------------------- artifacts

    def upload(self, experiment: str, run: str, path: str, file: Path) -> None:
        """Store a file as the run's artifact at `path`, over an earlier one; it is read piece by piece."""
        url = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/{path}"
        with file.open("rb") as content:
            self._send(self._http.build_request("PUT", url, content=content, timeout=UPLOAD_TIMEOUT))

    def files(self, run: str, folder: str) -> dict[str, int]:
        """The files in a folder of the run's artifacts with their sizes in bytes."""
        found: dict[str, int] = {}
        page = ""
        while True:
            params = {"run_id": run, "path": folder} | ({"page_token": page} if page else {})
            answer = self._call("GET", "artifacts/list", params=params)
            found |= {f["path"]: int(f.get("file_size", 0)) for f in answer.get("files", []) if not f.get("is_dir")}
            page = answer.get("next_page_token", "")
            if not page:
                return found

    # -------------------------------------------------------------------------------------------------- models

    def versions(self, tag: str, value: str) -> list[Version]:
        """The versions of all models with this tag. `value` is one of our ids: it holds no quote."""
        answer = self._call("GET", "model-versions/search", params={"filter": f"tags.`{tag}` = '{value}'"})
        return [
            Version(v["name"], str(v["version"]), v.get("run_id", ""), _mapping(v.get("tags", [])))
            for v in answer.get("model_versions", [])
        ]

    def create_model(self, name: str) -> None:
        """Make a registered model, unless it is there."""
        try:
            self._call("POST", "registered-models/create", {"name": name})
        except MlflowRefused as error:
            if error.code != ALREADY:
                raise

    def create_version(self, model: str, run: str, folder: str, tags: Mapping[str, str]) -> str:
        """Register a folder of the run's artifacts as the next version of the model."""
        body = {"name": model, "source": f"runs:/{run}/{folder}", "run_id": run, "tags": _pairs(tags)}
        return str(self._call("POST", "model-versions/create", body)["model_version"]["version"])

    def delete_version(self, model: str, version: str) -> None:
        self._call("DELETE", "model-versions/delete", {"name": model, "version": version})

    def set_alias(self, model: str, alias: str, version: str) -> None:
        self._call("POST", "registered-models/alias", {"name": model, "alias": alias, "version": version})

    def aliases(self, model: str) -> dict[str, str] | None:
        """Version by alias; None where there is no such model."""
        try:
            found = self._call("GET", "registered-models/get", params={"name": model})["registered_model"]
        except MlflowRefused as error:
            if error.code == NOT_THERE:
                return None
            raise
        return {one["alias"]: str(one["version"]) for one in found.get("aliases", [])}

    # --------------------------------------------------------------------------------------------------- calls

    def _call(
        self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        return self._send(self._http.build_request(method, f"/api/2.0/mlflow/{path}", json=body, params=params))

    def _send(self, request: httpx.Request) -> dict[str, Any]:
        try:
            answer = self._http.send(request)
        except httpx.HTTPError as error:
            nobody = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise MlflowAway(f"MLflow does not answer: {type(error).__name__}: {error}", everywhere=nobody) from error
        if answer.status_code in (401, 403):
            raise MlflowAway(
                f"MLflow answers {answer.status_code} to {request.url.host}: {answer.text[:200]} (its --allowed-hosts "
                "must name the host of BCD_MLFLOW_URL, and it must ask for no password)",
                everywhere=True,
            )
        if answer.status_code == 429:
            raise MlflowAway("MLflow answers 429: too many requests", everywhere=True)
        if answer.status_code >= 500:
            raise MlflowAway(f"MLflow answers {answer.status_code}: {answer.text[:500]}")
        try:
            value = answer.json() if answer.content else {}
        except ValueError as error:
            raise MlflowAway(f"something that is not MLflow answers at {request.url}") from error
        if not answer.is_success or not isinstance(value, dict):
            problem = value if isinstance(value, dict) else {}
            raise MlflowRefused(str(problem.get("error_code", answer.status_code)), str(problem.get("message", "")))
        return value


def valid_key(key: str) -> str:
    """A key that MLflow takes: letters, digits and `_-./ :` in a normal path. Different keys stay different."""
    head, _, rest = re.sub(r"[^\w\-./ :]", "_", key, flags=re.ASCII).partition("/")
    valid = f"{head}/{rest.replace('/', '_')}" if rest else head
    if posixpath.normpath(valid) != valid or valid.startswith((".", "/")):
        valid = "_" + re.sub(r"[./]", "_", valid)
    if valid == key and len(key) <= LONGEST_KEY:
        return key
    return f"{valid[: LONGEST_KEY - 9]}-{sha256(key.encode()).hexdigest()[:8]}"


def _run(value: dict[str, Any]) -> Run:
    info, data = value["info"], value.get("data", {})
    return Run(
        id=str(info["run_id"]),
        name=str(info.get("run_name", "")),
        status=str(info["status"]),
        start=int(info.get("start_time", 0)),
        end=int(info["end_time"]) if info.get("end_time") else None,
        active=info.get("lifecycle_stage") == "active",
        params=_mapping(data.get("params", [])),
        tags=_mapping(data.get("tags", [])),
        metric_keys=frozenset(one["key"] for one in data.get("metrics", [])),
    )


def _metric(value: dict[str, Any]) -> Metric:
    return Metric(value["key"], int(value.get("step", 0)), float(value["value"]), int(value["timestamp"]))


def _mapping(pairs: Sequence[dict[str, str]]) -> dict[str, str]:
    return {one["key"]: one.get("value", "") for one in pairs}


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]
