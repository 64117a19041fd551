"""What the API shows of a job's copy in MLflow."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.links import mlflow_run_url
from service.models import Mirror
from service.settings import Settings


class MirrorOut(BaseModel):
    """A job's run in MLflow. The ids are null until the mirror has begun with the job."""

    experiment_id: str | None
    run_id: str | None
    url: str | None = Field(description="The run's page in MLflow.")
    complete: bool = Field(description="The job has ended and MLflow has everything of it.")
    error: str | None = Field(description="Why the last try to copy it failed, or what could not be copied.")


def mirror_out(settings: Settings, row: Mirror | None) -> MirrorOut:
    experiment = row.done.get("experiment") if row is not None else None
    run = row.run_id if row is not None and experiment is not None else None
    return MirrorOut(
        experiment_id=experiment,
        run_id=run,
        url=mlflow_run_url(settings, experiment, run) if experiment is not None and run is not None else None,
        complete=row is not None and row.complete,
        error=row.error if row is not None else None,
    )
