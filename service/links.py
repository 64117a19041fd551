"""Addresses under which people and other programs find the things of this installation."""

from __future__ import annotations

from service.settings import Settings


def job_url(settings: Settings, job_id: str) -> str:
    return f"{settings.public_url}/api/v1/jobs/{job_id}"


def mlflow_run_url(settings: Settings, experiment_id: str, run_id: str) -> str:
    return f"{settings.mlflow_public_url}/#/experiments/{experiment_id}/runs/{run_id}"
