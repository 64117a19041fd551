"""Database models, SQLAlchemy 2.1. The only source of truth; the same on SQLite and PostgreSQL.

Times are Unix seconds (float): both databases order and compare them alike.
"""

from __future__ import annotations

from service.models.access import DEFAULT_PROJECT, GENERATED, Audit, Membership, Project, Role, Scope, Token, User
from service.models.base import Base, BigId, new_id
from service.models.jobs import TERMINAL, Attempt, Dependency, Event, Job, JobState, JobTag
from service.models.operations import Delivery, Leader, Mirror, Node, Webhook
from service.models.results import Artifact, Evaluation, LogLine, Point, Series
from service.models.saved import Manifest, View
from service.models.sweeps import Sweep, SweepState, Trial

__all__ = [
    "DEFAULT_PROJECT", "GENERATED", "TERMINAL", "Artifact", "Attempt", "Audit", "Base", "BigId", "Delivery",
    "Dependency", "Evaluation", "Event", "Job", "JobState", "JobTag", "Leader", "LogLine", "Manifest", "Membership",
    "Mirror", "Node", "Point", "Project", "Role", "Scope", "Series", "Sweep", "SweepState", "Token", "Trial", "User",
    "View", "Webhook", "new_id",
]  # fmt: skip
