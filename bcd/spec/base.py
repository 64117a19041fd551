"""What every block of a spec shares: strictness, number types, and the error that names each fault."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class SpecError(ValueError):
    """A spec that cannot be used. `errors` holds one `(json_pointer, message)` for each fault."""

    def __init__(self, errors: list[tuple[str, str]]):
        self.errors = errors
        super().__init__("\n".join(f"{pointer or '/'}: {message}" for pointer, message in errors))


class Strict(BaseModel):
    """Unknown keys, NaN and infinity are refused; values do not change after they were checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
