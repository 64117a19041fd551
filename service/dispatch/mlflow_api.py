"""The few calls of MLflow's REST API (2.0) that the mirror makes.

Plain HTTP instead of MLflow's client: that one takes seconds and 150 MB to import, and retries for minutes by default.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx

NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
ALREADY = "RESOURCE_ALREADY_EXISTS"
BATCH_METRICS, BATCH_OTHERS = 1000, 100  # MLflow's limits of one log-batch


class MlflowAway(Exception):
    """MLflow does not answer, or not sensibly."""


class MlflowRefused(Exception):
    """MLflow understood and said no; `code` is its own error code."""

    def __init__(self, code: str, message: str):
        self.code = code
        super().__init__(f"{code}: {message}")


class Mlflow:
    """One MLflow tracking server. All calls raise `MlflowAway` or `MlflowRefused`. Times are Unix seconds."""

    def __init__(self, url: str, *, timeout: float = 10.0, transport: httpx.BaseTransport | None = None):
        self._http = httpx.Client(base_url=url, timeout=timeout, transport=transport, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def answers(self) -> bool:
        try:
            return self._http.get("/health", timeout=2.0).is_success
        except httpx.HTTPError:
            return False

    def experiment(self, name: str) -> str:
        """The id of the experiment, made or restored where needed."""
        try:
            found = self._call("GET", "experiments/get-by-name", params={"experiment_name": name})["experiment"]
        except MlflowRefused as error:
            if error.code != NOT_THERE:
                raise
            return str(self._call("POST", "experiments/create", {"name": name})["experiment_id"])
        if found.get("lifecycle_stage") == "deleted":
            self._call("POST", "experiments/restore", {"experiment_id": found["experiment_id"]})
        return str(found["experiment_id"])

    def find_run(self, experiment: str, tag: str, value: str) -> str | None:
        """The id of the run with this tag."""
        query = {"experiment_ids": [experiment], "filter": f"tags.`{tag}` = '{value}'", "max_results": 1}
        runs = self._call("POST", "runs/search", query).get("runs", [])
        return str(runs[0]["info"]["run_id"]) if runs else None

    def create_run(self, experiment: str, name: str, start: float, tags: dict[str, str]) -> str:
        body = {"experiment_id": experiment, "run_name": name, "start_time": int(start * 1000), "tags": _pairs(tags)}
        return str(self._call("POST", "runs/create", body)["run"]["info"]["run_id"])

    def update_run(self, run: str, status: str, end: float | None) -> None:
        body: dict[str, Any] = {"run_id": run, "status": status}
        self._call("POST", "runs/update", body if end is None else {**body, "end_time": int(end * 1000)})

    def log_params(self, run: str, params: dict[str, str]) -> None:
        """Logging the same values again is harmless."""
        pairs = _pairs({_key(key): value[:6000] for key, value in params.items()})
        for i in range(0, len(pairs), BATCH_OTHERS):
            self._call("POST", "runs/log-batch", {"run_id": run, "params": pairs[i : i + BATCH_OTHERS]})

    def set_tags(self, run: str, tags: dict[str, str]) -> None:
        self._call("POST", "runs/log-batch", {"run_id": run, "tags": _pairs(tags)})

    def log_metrics(self, run: str, rows: list[tuple[str, int, float, float]]) -> None:
        """Rows of (key, step, value, time). The same row again is harmless: MLflow keeps one."""
        metrics = [
            {"key": _key(key), "step": step, "value": value, "timestamp": int(time * 1000)}
            for key, step, value, time in rows
        ]
        for i in range(0, len(metrics), BATCH_METRICS):
            self._call("POST", "runs/log-batch", {"run_id": run, "metrics": metrics[i : i + BATCH_METRICS]})

    def upload(self, experiment: str, run: str, path: str, file: Path) -> None:
        """Store a file as the run's artifact at `path`; over an earlier one of that path."""
        url = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/{path}"
        with file.open("rb") as content:
            self._send(self._http.build_request("PUT", url, content=content, timeout=60.0))

    def register(self, model: str, run: str, folder: str, tags: dict[str, str]) -> str:
        """A version of the registered model for this run, the one that is there if it was made before."""
        name = re.sub(r"[/:]", "-", model)
        found = self._call("GET", "model-versions/search", params={"filter": f"run_id='{run}'"})
        for version in found.get("model_versions", []):
            if version["name"] == name:
                return str(version["version"])
        try:
            self._call("POST", "registered-models/create", {"name": name})
        except MlflowRefused as error:
            if error.code != ALREADY:
                raise
        body = {"name": name, "source": f"runs:/{run}/{folder}", "run_id": run, "tags": _pairs(tags)}
        return str(self._call("POST", "model-versions/create", body)["model_version"]["version"])

    def _call(self, method: str, path: str, body: Any = None, params: dict[str, str] | None = None) -> dict[str, Any]:
        return self._send(self._http.build_request(method, f"/api/2.0/mlflow/{path}", json=body, params=params))

    def _send(self, request: httpx.Request) -> dict[str, Any]:
        try:
            answer = self._http.send(request)
            value = answer.json() if answer.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise MlflowAway(f"MLflow does not answer: {type(error).__name__}: {error}") from error
        if answer.status_code >= 500 and not (isinstance(value, dict) and "error_code" in value):
            raise MlflowAway(f"MLflow answers {answer.status_code}")
        if not answer.is_success or not isinstance(value, dict):
            problem = value if isinstance(value, dict) else {}
            raise MlflowRefused(str(problem.get("error_code", answer.status_code)), str(problem.get("message", "")))
        return value


def _pairs(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _key(key: str) -> str:
    """MLflow takes letters, digits and `_-./ :` in keys, and only paths that are normal."""
    head, _, rest = re.sub(r"[^\w\-./ :]", "_", key, flags=re.ASCII).partition("/")
    return f"{head}/{rest.replace('/', '_').replace('..', '__')}" if rest else head
