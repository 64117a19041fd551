"""Data sets of a spec, and what happens to training images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bcd.spec.base import Fraction, Strict


class AugmentSpec(Strict):
    """Random changes to training images; evaluation never uses them."""

    flip: Fraction = Field(0.0, description="Probability of a horizontal flip. Use 0 where left and right differ.")
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Zoom jitter: each image is scaled by a factor drawn from [1 - scale, 1 + scale]."
    )
    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="Shift jitter as a fraction of the image's width and height."
    )
    color: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Strength of random brightness, contrast and channel gain."
    )


class _DataSpec(Strict):
    augment: AugmentSpec = Field(default_factory=AugmentSpec, description="Training-time augmentation.")
    max_train_images: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Use only the first n training images (in a seeded order). Default: all."
    )


class DigitsData(_DataSpec):
    """Generated scenes of handwritten digits (digits-scenes-v1): needs no download and trains on a laptop.

    Glyphs come from scikit-learn's packaged digits; those of the validation scenes never occur in training.
    """

    type: Literal["digits-scenes-v1"]
    train_images: Annotated[int, Field(ge=1, le=100_000)] = Field(4000, description="Number of training scenes.")
    val_images: Annotated[int, Field(ge=1, le=20_000)] = Field(400, description="Number of validation scenes.")
    image_size: Annotated[int, Field(ge=32, le=1024, multiple_of=32)] = Field(
        96, description="Width and height of a scene in pixels."
    )
    min_objects: Annotated[int, Field(ge=0, le=50)] = Field(3, description="Fewest digits in a scene.")
    max_objects: Annotated[int, Field(ge=1, le=50)] = Field(6, description="Most digits in a scene.")
    min_size: Annotated[int, Field(ge=6)] = Field(16, description="Smallest glyph height in pixels.")
    max_size: Annotated[int, Field(ge=8)] = Field(52, description="Largest glyph height in pixels.")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(20.0, description="Largest rotation in degrees.")
    max_overlap: Fraction = Field(0.3, description="Largest IoU allowed between two digits of a scene.")
    texture: Fraction = Field(0.5, description="Strength of the textured background and noise.")
    scene_seed: Annotated[int, Field(ge=0)] = Field(
        0, description="Seed of the generated scenes. Separate from `seed`, so that seeds share one data set."
    )

    @model_validator(mode="after")
    def _ordered(self) -> DigitsData:
        if self.min_objects > self.max_objects:
            raise ValueError(f"min_objects ({self.min_objects}) must not exceed max_objects ({self.max_objects})")
        if self.min_size > self.max_size:
            raise ValueError(f"min_size ({self.min_size}) must not exceed max_size ({self.max_size})")
        if self.max_size > self.image_size:
            raise ValueError(f"max_size ({self.max_size}) must not exceed image_size ({self.image_size})")
        return self


class _FileData(_DataSpec):
    root: str = Field(description="Folder of the data set, as the worker sees it.")
    on_invalid: Literal["refuse", "skip"] = Field(
        "refuse",
        description="What to do with a box without area, an image that does not open or an unknown class: "
        "`refuse` stops with file and line, `skip` leaves it out and counts it.",
    )
    image_size: tuple[Annotated[int, Field(ge=32, le=4096)], Annotated[int, Field(ge=32, le=4096)]] = Field(
        (800, 1333), description="Keep-ratio resize: shorter and longer side in pixels at most."
    )

    @model_validator(mode="after")
    def _shorter_first(self) -> _FileData:
        short, long = self.image_size
        if short > long:
            raise ValueError(f"image_size is (shorter, longer) side: write [{long}, {short}], not [{short}, {long}]")
        return self


class CocoData(_FileData):
    """A data set in COCO json form."""

    type: Literal["coco"]
    train_annotations: str = Field(description="Training annotations (json), relative to root.")
    train_folder: str = Field(description="Folder of the training images, relative to root.")
    val_annotations: str = Field(description="Validation annotations (json), relative to root.")
    val_folder: str = Field(description="Folder of the validation images, relative to root.")


class VocData(_FileData):
    """A data set in Pascal VOC form: JPEGImages/, Annotations/, ImageSets/Main/<split>.txt under root."""

    type: Literal["voc"]
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=2000)] = Field(
        description="Class names in index order. A box of another class is an unknown class (see on_invalid)."
    )
    train_split: str = Field("train", description="Name of the training list in ImageSets/Main.")
    val_split: str = Field("val", description="Name of the validation list in ImageSets/Main.")
    keep_difficult: bool = Field(False, description="Train on objects marked difficult. Evaluation ignores them.")

    @model_validator(mode="after")
    def _distinct(self) -> VocData:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be distinct")
        return self


DataSpec = Annotated[DigitsData | CocoData | VocData, Field(discriminator="type")]
