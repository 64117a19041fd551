"""The job spec: what to train on, from which teacher, into which student, how, and how it is judged.

This file owns the contract between the library, the service and the workers. It imports no torch, so that the
API process can validate and publish it without loading a training stack. Unknown keys are refused everywhere.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class SpecError(ValueError):
    """A spec that cannot be used. `errors` holds one `(json_pointer, message)` for each fault."""

    def __init__(self, errors: list[tuple[str, str]]):
        self.errors = errors
        super().__init__("\n".join(f"{pointer or '/'}: {message}" for pointer, message in errors))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --------------------------------------------------------------------------------------------------- data


class AugmentSpec(_Strict):
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


class _DataSpec(_Strict):
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

# ------------------------------------------------------------------------------------------------- models


class DetectorSpec(_Strict):
    """A detector: head family, backbone and widths. Defaults are GFL as published for COCO."""

    detector: Literal["gfl"] = Field("gfl", description="Head family.")
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "tiny"] = Field(
        "resnet18", description="torchvision ResNet, or `tiny`: a small GroupNorm network for CPU work."
    )
    width: Annotated[int, Field(ge=4, le=256, multiple_of=4)] = Field(
        16, description="Base width of the `tiny` backbone. Other backbones ignore it."
    )
    fpn_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = Field(
        256, description="Channels of the feature pyramid and of the head."
    )
    stacked_convs: Annotated[int, Field(ge=0, le=8)] = Field(4, description="3x3 convolutions in each head branch.")
    strides: Annotated[tuple[Literal[4, 8, 16, 32, 64, 128], ...], Field(min_length=1, max_length=6)] = Field(
        (8, 16, 32, 64, 128), description="Strides of the pyramid levels in pixels; each twice the one before."
    )
    reg_max: Annotated[int, Field(ge=4, le=32)] = Field(
        16, description="Largest box distance in units of the stride; the distribution has reg_max + 1 bins."
    )
    prior_scale: Annotated[float, Field(ge=0.5, le=32)] = Field(
        8.0,
        description="Side of the square prior in units of the stride (published: 8). Label assignment compares it with "
        "the boxes: lower it where objects are small for their level, else they get few positive sites.",
    )
    frozen_stages: Annotated[int, Field(ge=-1, le=4)] = Field(
        -1, description="Freeze the stem and this many backbone stages (-1: nothing). Published GFL freezes 1."
    )
    norm_eval: bool = Field(False, description="Keep BatchNorm statistics fixed while training (published GFL: true).")
    pretrained: bool = Field(False, description="Start the backbone from torchvision's ImageNet weights.")

    @model_validator(mode="after")
    def _doubling(self) -> DetectorSpec:
        if any(b != 2 * a for a, b in zip(self.strides, self.strides[1:], strict=False)):
            raise ValueError(f"strides must double from level to level, not {list(self.strides)}")
        if self.backbone != "tiny" and self.strides[:3] != (8, 16, 32):
            raise ValueError(f"strides of a ResNet detector begin with 8, 16, 32, not {list(self.strides)}")
        if self.backbone == "tiny" and self.pretrained:
            raise ValueError("there are no pretrained weights for the tiny backbone; set pretrained: false")
        return self


class TeacherSpec(_Strict):
    """Where the teacher comes from: exactly one of `job` and `path`."""

    job: str | None = Field(None, description="Id of another job; this job waits for it and uses its result.")
    path: str | None = Field(None, description="Folder or .safetensors file of a detector written by bcd.")
    cache: Literal["auto", "off"] = Field(
        "auto",
        description="auto: run the teacher once over the training images and keep its outputs in memory (up to 1 GiB), "
        "where images never change (no augmentation, one size) and are seen more than once. off: run it at every step.",
    )

    @model_validator(mode="after")
    def _one(self) -> TeacherSpec:
        if (self.job is None) == (self.path is None):
            raise ValueError("give exactly one of `job` (id of another job) and `path` (a detector written by bcd)")
        return self


# ------------------------------------------------------------------------------------------------ methods


class _MethodSpec(_Strict):
    weight: NonNegative = Field(1.0, description="Factor on all terms of this method.")
    warmup: Fraction = Field(
        0.0, description="Fraction of all steps over which the method's weight rises linearly from 0."
    )


class BckdMethod(_MethodSpec):
    """Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection (ICCV 2023)."""

    type: Literal["bckd"]
    cls_weight: NonNegative = Field(1.0, description="Weight of the binary classification distillation (paper: 1).")
    loc_weight: NonNegative = Field(4.0, description="Weight of the IoU localisation distillation (paper: 4).")
    beta: Annotated[float, Field(ge=1, le=4)] = Field(
        1.0, description="Exponent of the weight |p_teacher - p_student| (official code: 1)."
    )
    iou: Literal["giou", "iou"] = Field(
        "giou", description="Localisation measure: giou as in the official code, iou as in the paper's formula."
    )
    level_gate: bool = Field(
        False,
        description="Skip pyramid levels without any positive site in the batch, as the official code does. "
        "Off by default: it makes the loss depend on the batch's composition.",
    )


MethodSpec = Annotated[BckdMethod, Field(discriminator="type")]

# ----------------------------------------------------------------------------------------------- schedule


class AdamWSpec(_Strict):
    """AdamW (decoupled weight decay)."""

    type: Literal["adamw"]
    lr: Positive = Field(1e-3, description="Peak learning rate.")
    weight_decay: NonNegative = Field(0.05, description="Decoupled weight decay; not applied to norms and biases.")


class SgdSpec(_Strict):
    """SGD with momentum, as published for GFL (lr 0.01 at batch 16)."""

    type: Literal["sgd"]
    lr: Positive = Field(0.01, description="Peak learning rate.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum.")
    weight_decay: NonNegative = Field(1e-4, description="L2 weight decay.")


OptimizerSpec = Annotated[AdamWSpec | SgdSpec, Field(discriminator="type")]


class CosineSpec(_Strict):
    """Cosine decay from the peak to `final` times the peak."""

    type: Literal["cosine"]
    final: Fraction = Field(0.02, description="Learning rate at the end, as a fraction of the peak.")


class MultiStepSpec(_Strict):
    """Step decay at fractions of the whole run (1x schedule: 8/12 and 11/12)."""

    type: Literal["multistep"]
    milestones: tuple[Fraction, ...] = Field((8 / 12, 11 / 12), description="Fractions of all steps.")
    gamma: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="Factor at each milestone.")


DecaySpec = Annotated[CosineSpec | MultiStepSpec, Field(discriminator="type")]


class ScheduleSpec(_Strict):
    """How long and how to optimise."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)] = Field(1200, description="Optimizer steps.")
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(16, description="Images in a step.")
    optimizer: OptimizerSpec = Field(
        default_factory=lambda: AdamWSpec(type="adamw"), description="Optimizer and its settings."
    )
    decay: DecaySpec = Field(default_factory=lambda: CosineSpec(type="cosine"), description="Learning-rate decay.")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(100, description="Linear learning-rate warm-up from 0.")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Decay of the exponential moving average that is evaluated and exported; 0 turns it off."
    )
    clip_norm: Positive | None = Field(None, description="Clip the gradient's L2 norm to this value.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 autocast on CUDA, fp32 on CPU. Losses are always fp32."
    )
    checkpoint_every: Annotated[int, Field(ge=1)] = Field(200, description="Steps between checkpoints.")
    log_every: Annotated[int, Field(ge=1)] = Field(20, description="Steps between logged metrics.")


class EvaluationSpec(_Strict):
    """How detections are made and judged (COCO AP over IoU .50:.05:.95)."""

    every: Annotated[int, Field(ge=0)] = Field(0, description="Steps between evaluations; 0: only at the end.")
    score_threshold: Fraction = Field(0.05, description="Detections below this score are dropped.")
    nms_iou: Fraction = Field(0.6, description="IoU of class-wise non-maximum suppression.")
    nms_candidates: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000, description="Best candidates of each pyramid level that enter the suppression."
    )
    max_detections: Annotated[int, Field(ge=1, le=1000)] = Field(100, description="Detections kept for an image.")
    batch_size: Annotated[int, Field(ge=1, le=1024)] = Field(16, description="Images in an evaluation batch.")


class ResourceSpec(_Strict):
    """What a job occupies while it runs."""

    cpus: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="CPU threads.")
    gpus: Annotated[int, Field(ge=0, le=1)] = Field(0, description="GPUs.")


# -------------------------------------------------------------------------------------------------- whole


class JobSpec(_Strict):
    """One training run. Without `teacher` and `methods` it trains a plain detector (a teacher or a baseline)."""

    version: Literal[1] = Field(1, description="Version of this format.")
    name: Annotated[str, Field(min_length=1, max_length=200)] = Field("job", description="A name for people.")
    data: DataSpec = Field(description="Data set.")
    teacher: TeacherSpec | None = Field(None, description="Teacher detector; needed by every method.")
    student: DetectorSpec = Field(description="The detector to train.")
    methods: Annotated[tuple[MethodSpec, ...], Field(max_length=16)] = Field(
        (), description="Distillation methods; their losses add up. Empty: train on labels alone."
    )
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec, description="Optimisation.")
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec, description="Evaluation.")
    resources: ResourceSpec = Field(default_factory=ResourceSpec, description="CPU threads and GPUs.")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="Seed of initial weights, batch order and augmentation."
    )

    @model_validator(mode="after")
    def _teacher_and_methods(self) -> JobSpec:
        if self.methods and self.teacher is None:
            raise ValueError("methods need a teacher: add `teacher: {job: ID}` or `teacher: {path: FILE}`")
        if self.teacher is not None and not self.methods:
            raise ValueError("a teacher without methods would do nothing: add `methods: [{type: bckd}]` or drop it")
        return self

    def canonical(self) -> dict[str, Any]:
        """The spec as plain JSON values with every default filled in."""
        return self.model_dump(mode="json")

    def digest(self, *, without: tuple[str, ...] = ()) -> str:
        """SHA-256 of the canonical spec, leaving out the named top-level keys (`name`, `seed`, ...)."""
        plain = {key: value for key, value in self.canonical().items() if key not in without}
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def parse_spec(value: Any) -> JobSpec:
    """Check a spec given as plain values.

    Raises `SpecError` with a JSON pointer (RFC 6901) into the spec for each fault.
    """
    try:
        return JobSpec.model_validate(value)
    except ValidationError as error:
        raise SpecError([(_pointer(value, e["loc"]), _message(dict(e))) for e in error.errors()]) from None


def load_spec(path: str | Path) -> JobSpec:
    """Read and check a spec file (YAML or JSON). Raises `SpecError`; the pointer is empty for file faults."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError([("", f"no such spec file: {path}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([("", f"cannot read {path}: {error}")]) from None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError([("", f"{path} is not valid YAML: {error}")]) from None
    return parse_spec(value)


def _pointer(value: Any, loc: tuple[int | str, ...]) -> str:
    """A JSON pointer into what the user sent: pydantic's union tags are not part of it."""
    parts: list[str] = []
    for part in loc:
        inside = isinstance(value, dict | list | tuple)
        known = (isinstance(value, dict) and part in value) or (
            isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        )
        tag = isinstance(value, dict) and not known and value.get("type") == part
        if tag:
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
        value = value[part] if inside and known else None
    return "".join("/" + part for part in parts)


def _message(error: dict[str, Any]) -> str:
    kind, ctx = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key; remove it or check its spelling"
    if kind == "missing":
        return "required, but missing"
    if kind == "union_tag_invalid":
        return f"unknown type {ctx.get('tag')!r}; known: {ctx.get('expected_tags')}"
    if kind == "union_tag_not_found":
        return "`type` is missing"
    if kind == "value_error":
        return str(ctx.get("error", error["msg"]))
    message = error["msg"][:1].lower() + error["msg"][1:]
    given = error.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool) and len(repr(given)) <= 80 else ""
    return f"{message}{shown}"
