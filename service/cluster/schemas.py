"""What the API shows of the cluster."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Resources(BaseModel):
    cpus: float
    gpus: float
    memory: float = Field(description="GiB. In use counts only what jobs asked for.")


class NodeOut(BaseModel):
    """A machine. One that is away stays in the list for a week, because jobs may wait for it."""

    id: str
    name: str
    alive: bool
    total: Resources
    spares: int = Field(description="Idle workers that have everything imported and wait for a job.")
    seen_at: float


class InUse(Resources):
    jobs: int = Field(description="Attempts that are starting or running.")


class ProjectUse(InUse):
    """What a project has in use, and the most that it may have (null: no limit of its own)."""

    project: str
    max_jobs: int | None
    max_gpus: float | None
    queue: dict[str, int] = Field(description="How many of its jobs are in each state that is not an end.")


class LeaderOut(BaseModel):
    """The dispatcher that starts jobs. Of several the others stand by."""

    holder: str = Field(description="Name of its machine.")
    epoch: int = Field(description="How often the lead has changed.")
    leads: bool = Field(description="Whether it was heard of in time.")
    until: float


class ClusterOut(BaseModel):
    nodes: list[NodeOut]
    total: Resources = Field(description="Of all nodes that are there.")
    in_use: InUse = Field(description="By all projects, also those that you may not look at.")
    projects: list[ProjectUse] = Field(description="Those that you may look at.")
    queue: dict[str, int] = Field(description="Jobs by state, over the projects that you may look at.")
    leader: LeaderOut | None = Field(description="null: no dispatcher has ever run.")
