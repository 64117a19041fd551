"""Data sets of a spec, and what happens to training images."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bcd.spec.base import Fraction, Strict

Side = Annotated[int, Field(ge=32, le=4096)]


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
    multi_scale: tuple[Side, Side] | None = Field(
        None,
        description="Shorter side in pixels drawn from this range, in place of image_size's; the longer side's limit "
        "stays. [480, 800] is the published multi-scale training.",
    )
    multi_scale_per: Literal["image", "batch"] = Field(
        "image", description="Draw the scale for each image (as published) or once for each batch (less padding)."
    )
    crop: Fraction = Field(
        0.0, description="Probability of a random crop that keeps at least one object; it is then resized as an image."
    )
    crop_min: Annotated[float, Field(gt=0, le=1)] = Field(
        0.4, description="Smallest width and height of a crop, as fractions of the image's."
    )
    mosaic: Fraction = Field(0.0, description="Probability of a mosaic: the image and three others around one point.")
    mosaic_until: Fraction = Field(
        0.9, description="Fraction of the steps after which no mosaic is made, so that training ends on whole images."
    )

    @model_validator(mode="after")
    def _ordered(self) -> AugmentSpec:
        if self.multi_scale is not None and self.multi_scale[0] > self.multi_scale[1]:
            low, high = self.multi_scale
            raise ValueError(f"multi_scale is (smallest, largest) shorter side: write [{high}, {low}]")
        return self


class _Unlabeled(Strict):
    """Further images that are distilled from the teacher without any label. They are added to each batch."""

    per_batch: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None, description="Unlabelled images added to each batch. Give this or `share`."
    )
    share: Annotated[float, Field(gt=0, le=0.95)] | None = Field(
        None,
        description="Unlabelled part of the enlarged batch: 0.5 adds as many images as schedule.batch_size. "
        "Neither given: 0.5.",
    )
    weight: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Weight of an unlabelled image in the distillation losses; a labelled one has 1."
    )

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if self.per_batch is not None and self.share is not None:
            raise ValueError("give `per_batch` (images) or `share` (part of the enlarged batch), not both")
        return self

    def count(self, batch_size: int) -> int:
        """Unlabelled images that are added to a batch of `batch_size` labelled ones; at least 1."""
        if self.per_batch is not None:
            return self.per_batch
        share = 0.5 if self.share is None else self.share
        return max(1, round(batch_size * share / (1 - share)))


class UnlabeledFiles(_Unlabeled):
    """Image files without labels: exactly one of `folder` and `list`."""

    folder: str | None = Field(
        None, description="Folder of images, with its subfolders; relative to root, or absolute as the worker sees it."
    )
    list: str | None = Field(
        None,
        description="Text file with one image path on each line, relative to the file's own folder or absolute. "
        "The file itself is given like `folder`.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> UnlabeledFiles:
        if (self.folder is None) == (self.list is None):
            raise ValueError("give exactly one of `folder` (of images) and `list` (a text file of image paths)")
        return self


class UnlabeledScenes(_Unlabeled):
    """Generated scenes whose labels are withheld. Their glyphs are the training scenes'."""

    images: Annotated[int, Field(ge=1, le=100_000)] = Field(description="Number of unlabelled scenes.")


class _DataSpec(Strict):
    augment: AugmentSpec = Field(default_factory=AugmentSpec, description="Training-time augmentation.")
    max_train_images: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Use only the first n training images (in a seeded order). Default: all."
    )
    group_by_shape: bool = Field(
        False,
        description="Put images of a similar aspect ratio into the same batch, so that less of it is padding. Every "
        "image still comes once in an epoch.",
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
    unlabeled: UnlabeledScenes | None = Field(None, description="Scenes that are only distilled from the teacher.")

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
    image_size: tuple[Side, Side] = Field(
        (800, 1333), description="Keep-ratio resize: shorter and longer side in pixels at most."
    )
    ignored: Literal["background", "masked"] = Field(
        "background",
        description="What crowd and difficult objects are in training. background: nothing, as published. masked: "
        "places inside them take no part in the task loss.",
    )
    skip_empty: bool = Field(
        False,
        description="Leave out training images without any object to learn, as published COCO training does. "
        "Validation keeps them.",
    )
    unlabeled: UnlabeledFiles | None = Field(None, description="Images that are only distilled from the teacher.")

    @model_validator(mode="after")
    def _shorter_first(self) -> _FileData:
        short, long = self.image_size
        if short > long:
            raise ValueError(f"image_size is (shorter, longer) side: write [{long}, {short}], not [{short}, {long}]")
        scales = self.augment.multi_scale
        if scales is not None and scales[1] > long:
            raise ValueError(
                f"augment.multi_scale reaches {scales[1]}, beyond image_size's longer side {long}: no image would "
                f"become so large; lower it or write image_size: [{short}, {scales[1]}]"
            )
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


class YoloData(_FileData):
    """A data set in YOLO txt form: images/ beside labels/, with a data.yaml or with the folders given here."""

    type: Literal["yolo"]
    data_file: str | None = Field(
        None, description="The data.yaml (names, train, val), relative to root. Not needed with the three keys below."
    )
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=2000)] | None = Field(
        None, description="Class names in index order, in place of the data.yaml's `names`."
    )
    train: str | None = Field(
        None, description="Folder of the training images, or a .txt list of them; relative to root."
    )
    val: str | None = Field(
        None, description="Folder of the validation images, or a .txt list of them; relative to root."
    )

    @model_validator(mode="after")
    def _complete(self) -> YoloData:
        if self.data_file is None and None in (self.classes, self.train, self.val):
            raise ValueError("give `data_file` (the data.yaml), or all of `classes`, `train` and `val`")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be distinct")
        return self


DataSpec = Annotated[DigitsData | CocoData | VocData | YoloData, Field(discriminator="type")]
