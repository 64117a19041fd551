"""What is said about images. Boxes are x1, y1, x2, y2 in pixels of the original image."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Kind = Literal["mistakes", "first right", "second right", "both wrong", "largest gap"]
Verdict = Literal[
    "right", "ignored", "wrong", "classification", "localisation", "both", "duplicate", "background"
]  # fmt: skip
Box = tuple[float, float, float, float]


class Sight(BaseModel):
    """How a run does on all pictures together, at these thresholds."""

    job_id: str
    name: str
    right: int
    wrong: int
    missed: int
    errors: dict[str, int] | None = Field(
        description="Wrong detections and missed objects by type (TIDE); only at an IoU of 0.5, where they are defined."
    )


class RankedImage(BaseModel):
    image: int = Field(description="Id of the image in its data set.")
    file_name: str
    score: float
    reasons: list[str]


class ImagesOut(BaseModel):
    """The images that say most about one run, or about two."""

    pictures: int = Field(description="Images that are looked at: those of which there are pictures.")
    whole: int = Field(description="Images of the whole validation part.")
    class_names: list[str]
    first: Sight
    second: Sight | None
    items: list[RankedImage] = Field(description="The worst first.")


class ObjectOut(BaseModel):
    box: Box
    label: str
    ignore: bool = Field(description="Neither asked for nor wrong: crowd or difficult, or of another class than asked.")


class DetectionOut(BaseModel):
    box: Box
    label: str
    score: float
    verdict: Verdict = Field(
        description="right; ignored (on an object that is not asked for); or what is wrong with it, at other IoUs than "
        "0.5 just wrong."
    )


class ClassOut(BaseModel):
    name: str
    objects: int
    images: int = Field(description="Images that show at least one.")


class SizeOut(BaseModel):
    """Objects whose size, the square root of the area of their box in pixels, lies between two bounds."""

    least: float
    below: float | None = Field(description="None: no bound.")
    objects: int


class PictureOut(BaseModel):
    image: int
    file_name: str
    width: int
    height: int
    objects: list[ObjectOut]


class DataOut(BaseModel):
    """What the pictures of a run's validation data show."""

    data_hash: str
    pictures: int
    whole: int = Field(description="Images of the whole validation part.")
    objects: int = Field(description="Those that count; crowds and difficult ones are `ignored`.")
    ignored: int
    classes: list[ClassOut] = Field(description="In the order of the data set.")
    sizes: list[SizeOut]
    sample: list[PictureOut] = Field(description="Some pictures, spread evenly.")


class SeenBy(BaseModel):
    job_id: str
    detections: list[DetectionOut] = Field(description="The surest first.")
    found: list[bool] = Field(description="Of each object, whether this run has found it.")


class ImageOut(BaseModel):
    image: int
    file_name: str
    width: int
    height: int
    objects: list[ObjectOut]
    views: list[SeenBy] = Field(description="In the order asked for.")
