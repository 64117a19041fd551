"""Bodies of requests: strict JSON into a model, with a pointer to each fault, and the same model in the document."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import from_validation, parse_json, read_body

M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    """A body that people write: unknown keys, texts in place of numbers, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def body(model: type[M]) -> Any:
    """Dependency: the request's body as a model. FastAPI's own reading would take doubled keys and NaN."""

    def read(raw: Annotated[bytes, Depends(read_body)]) -> M:
        return checked(model, parse_json(raw))

    return Depends(read)


def checked(model: type[M], value: Any) -> M:
    """Plain values as a model. Raises `Problem` 422."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise from_validation([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from None


def described(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route with such a body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}
