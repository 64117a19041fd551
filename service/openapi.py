"""The published API contract: FastAPI's document, with the schema of the job spec and problems as errors.

Bodies are read by our own parser (`service.bodies` names their schemas) and errors answered by our own handlers, so
FastAPI cannot know either by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from fastapi import FastAPI

from bcd.spec import JobSpec
from bcd.sweep import SweepSpec

_REF = "#/components/schemas/"
_PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). `detail` says what to change.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "Stable name of the kind of problem."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string", "description": "Names this request in the service's log."},
        "errors": {
            "type": "array",
            "description": "Each fault with a JSON pointer (RFC 6901) into the body.",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def publish(app: FastAPI) -> None:
    """Make `app.openapi()` and `/openapi.json` tell the truth about bodies and errors. Call it last."""
    plain: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(deepcopy(plain()))  # it holds parts of the routes themselves
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    spec = JobSpec.model_json_schema(ref_template=_REF + "{model}")
    sweep = SweepSpec.model_json_schema(ref_template=_REF + "{model}")
    schemas |= {**spec.pop("$defs"), **sweep.pop("$defs")}
    schemas |= {"JobSpec": spec, "SweepSpec": sweep, "Problem": _PROBLEM}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = {"content": {"application/problem+json": {"schema": {"$ref": _REF + "Problem"}}}}
    for item in document["paths"].values():
        for operation in item.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "A problem, see `detail`.", **problem}
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schemas |= content["schema"].pop("$defs", {})  # of a body that `service.bodies` documents
    return document
