"""The route of a request as figures and traces name it: `/api/v1/jobs/{job_id}`, never with the id itself."""

from __future__ import annotations

from starlette.types import Scope


def route_of(scope: Scope) -> str:
    """The template of the route that answers; `unknown` where none does (ids of strangers would make endless names)."""
    if scope.get("route") is None:
        return "unknown"
    names = {str(value): name for name, value in (scope.get("path_params") or {}).items()}
    return "/".join(f"{{{names[part]}}}" if part in names else part for part in scope["path"].split("/"))
