"""JSON bodies as models: read by our strict parser, with each fault at its JSON pointer, and published as they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from service.errors import from_validation, parse_json

_Model = TypeVar("_Model", bound=BaseModel)


def read_as(model: type[_Model]) -> Callable[[Request], Awaitable[_Model]]:
    """Dependency: the body as this model. Raises `Problem` 400 for what is no JSON, 422 with pointers for the rest."""

    async def read(request: Request) -> _Model:
        return checked(model, parse_json(await request.body()))

    return read


def checked(model: type[_Model], value: Any) -> _Model:
    """A parsed body as this model. Raises `Problem` 422."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise from_validation([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from None


def documented(schema: type[BaseModel] | str) -> dict[str, Any]:
    """`openapi_extra` of a route whose body FastAPI does not read: a model, or the name of a published schema."""
    if isinstance(schema, str):
        content: dict[str, Any] = {"$ref": f"#/components/schemas/{schema}"}
    else:
        content = schema.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": content}}}}
