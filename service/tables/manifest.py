"""The manifest of a table: what each of its cells trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, JsonValue, ValidationError, model_validator

from bcd.spec import JobSpec, SpecError, parse_spec
from bcd.spec.base import Strict
from bcd.spec.parse import message_of
from bcd.spec.parse import pointer_of as place_of

MOST_CELLS = 1000
MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
Label = Annotated[str, Field(min_length=1, max_length=30, pattern=r"^[^\x00-\x1f\x7f/]+$")]
_OURS = ("name", "seed", "student", "teacher", "methods")


class Manifest(Strict):
    """Methods x students x seeds on one data set and schedule."""

    name: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
    job: dict[str, JsonValue] = Field(description="What all cells share of a job spec: data, schedule, evaluation.")
    teacher: dict[str, JsonValue] | None = Field(None, description="As in a job spec, for the cells with methods.")
    students: Annotated[dict[Label, dict[str, JsonValue]], Field(min_length=1)] = Field(
        description="A name for each student, and its `student` block."
    )
    methods: Annotated[dict[Label, list[JsonValue]], Field(min_length=1)] = Field(
        description="A name for each row, and its `methods` block; an empty one trains on labels alone."
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1, max_length=50)] = (0, 1, 2)
    metric: str = Field("AP", description="AP, AP50, AP75, APs, APm or APl of the final evaluation, in points.")
    published: dict[Label, dict[Label, float]] = Field(
        default_factory=dict, description="Figures to compare with, by student and method, in points."
    )
    tolerance: Annotated[float, Field(ge=0, le=100)] = Field(
        0.5, description="A mean that is so many points from the published figure at most has reproduced it."
    )

    @model_validator(mode="after")
    def _fits(self) -> Manifest:
        if self.metric not in MEASURES:
            raise ValueError(f"metric must be one of {', '.join(MEASURES)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed comes twice; name each once")
        if (count := len(self.students) * len(self.methods) * len(self.seeds)) > MOST_CELLS:
            raise ValueError(f"{count} cells are more than {MOST_CELLS}")
        if ours := [key for key in _OURS if key in self.job]:
            raise ValueError(f"job.{ours[0]} is made from the table: leave it out")
        for student, figures in self.published.items():
            if student not in self.students:
                raise ValueError(f"published.{student}: there is no such student here")
            if unknown := [method for method in figures if method not in self.methods]:
                raise ValueError(f"published.{student}.{unknown[0]}: there is no such method here")
        if any(self.methods.values()) and self.teacher is None:
            raise ValueError("teacher is missing: rows with methods need one")
        return self


@dataclass(frozen=True)
class Cell:
    """One run of a table."""

    student: str
    method: str
    seed: int
    spec: JobSpec

    @property
    def digest(self) -> str:
        """What must be equal for a job to be this cell: all but its name and where it runs."""
        return digest_of(self.spec)


def digest_of(spec: JobSpec) -> str:
    return spec.digest(without=("name", "resources"))


def parse_manifest(value: Any) -> Manifest:
    """Raises `SpecError` with pointers, also for cells that are no job spec."""
    try:
        manifest = Manifest.model_validate(value)
    except ValidationError as error:
        raise SpecError([(place_of(value, e["loc"]), message_of(dict(e))) for e in error.errors()]) from None
    list(cells(manifest))
    return manifest


def cells(manifest: Manifest) -> Iterator[Cell]:
    """Row by row. Raises `SpecError` for one that is no job spec, with a pointer into the manifest."""
    for student, detector in manifest.students.items():
        for method, blocks in manifest.methods.items():
            values: dict[str, Any] = {
                **manifest.job,
                "name": f"{manifest.name}: {student} / {method}"[:200],
                "student": detector,
                "methods": blocks,
                **({"teacher": manifest.teacher} if blocks else {}),
            }
            try:
                spec = parse_spec({**values, "seed": manifest.seeds[0]})
            except SpecError as error:
                place, message = error.errors[0]
                raise SpecError([(_pointer(place, student, method), message)]) from None
            for seed in manifest.seeds:
                yield Cell(student, method, seed, spec.model_copy(update={"seed": seed}))


def pointer_of(place: str, cell: Cell) -> str:
    """Where in the manifest a fault of a cell's job spec lies."""
    return _pointer(place, cell.student, cell.method)


def _pointer(place: str, student: str, method: str) -> str:
    first, _, rest = place.lstrip("/").partition("/")
    if first == "student":
        return "/".join(filter(None, ["/students", student, rest]))
    if first == "methods":
        return "/".join(filter(None, ["/methods", method, rest]))
    return place if first == "teacher" else f"/job{place}"
