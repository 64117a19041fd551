"""The Python SDK: a typed client of the REST API, for scripts and notebooks, the command line and the tests.

    from service.client import Client
    with Client("http://127.0.0.1:8765", token) as client:
        job = client.submit(spec, tags=["night"])
        client.wait([job["id"]])

It owns the mapping from HTTP to Python: problem documents become `ApiError`, an unreachable service becomes
`ServiceUnavailable`, and streams survive dropped connections. It imports no part of the server.
"""

from __future__ import annotations

from service.client.admin import Admin
from service.client.errors import ApiError, ServiceUnavailable
from service.client.follow import Follow
from service.client.sweeps import Sweeps
from service.client.tables import Tables
from service.client.types import TERMINAL, Artifact, Event, Job, JobPage, JobRow, LogLine, LogPage, Outcome, Series

__all__ = [
    "TERMINAL", "ApiError", "Artifact", "Client", "Event", "Job", "JobPage", "JobRow", "LogLine", "LogPage", "Outcome",
    "Series", "ServiceUnavailable",
]  # fmt: skip


class Client(Follow, Sweeps, Tables, Admin):
    """Talks to one service. Usable as a context manager; not shared between threads."""
