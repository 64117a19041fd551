"""What a detector's head is made with: what a person sets, and the choices in which foreign checkpoints differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """Choices of pyramid, head and box code that a checkpoint fixes and a person would never set.

    Each detector class states its published variant; a foreign checkpoint changes some keys of it
    (`bcd.build_detector(..., variant={...})`). The defaults here are those of MMDetection's GFL.
    """

    fpn_extra: Literal["output", "input"] = "output"
    """What the first extra pyramid level is made of: the last pyramid map, or the last map of the backbone."""
    fpn_relu: bool = False
    """A ReLU before every extra level after the first."""
    head_norm: Literal["gn", "none"] = "gn"
    """GroupNorm after every convolution of the towers, or none."""
    head_bias: bool = False
    """Tower convolutions have a bias beside their norm. Without a norm they always have one."""
    gn_groups: int = 0
    """Groups of the towers' GroupNorm; 0: 32, or fewer where a group would have less than 8 channels."""
    gn_eps: float = 1e-5
    """eps of the towers' GroupNorm."""
    centre_offset: float = 0.0
    """Where in its cell a location's centre lies: 0 at the corner, 0.5 in the middle."""
    dynamic_strides: bool = False
    """Locations lie image size // map size pixels apart (torchvision) instead of one stride."""
    round_anchors: bool = False
    """Anchor sides are whole numbers of pixels, rounded as torchvision does (RetinaNet)."""
    box_code: Literal["exp", "relu"] = "exp"
    """FCOS: distances are exp(x) in pixels, or relu(x) in units of the stride."""
    centerness_on: Literal["cls", "reg"] = "reg"
    """The tower from whose map centerness is predicted."""
    box_means: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Means of the delta code (ATSS, RetinaNet)."""
    box_stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """Standard deviations of the delta code (ATSS, RetinaNet)."""
    max_ratio: float = 1000 / 16
    """Largest factor by which the delta code makes a side longer or shorter than its prior's."""
    score: Literal["product", "sqrt"] = "product"
    """A detection's score: class probability times centerness, or the root of it (torchvision)."""

    def changed(self, given: Mapping[str, Any]) -> Variant:
        """This variant with some keys changed. Raises ValueError for an unknown key or value, naming the known ones."""
        hints, changes = get_type_hints(Variant), {}
        for key, value in given.items():
            if key not in hints:
                known = ", ".join(f.name for f in fields(Variant))
                raise ValueError(f"unknown key {key!r} of a detector's variant; known: {known}")
            changes[key] = _checked(key, value, hints[key])
        return replace(self, **changes)


def _checked(key: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"variant {key} must be one of {', '.join(get_args(hint))}, not {value!r}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or len(value) != 4:
            raise ValueError(f"variant {key} must be four numbers, not {value!r}")
        return tuple(float(v) for v in value)
    if hint is bool and not isinstance(value, bool):
        raise ValueError(f"variant {key} must be true or false, not {value!r}")
    if hint is int and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"variant {key} must be a whole number, not {value!r}")
    if hint is float and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"variant {key} must be a number, not {value!r}")
    return hint(value)


BoxLoss = Literal["l1", "iou", "log_iou", "giou", "diou", "ciou"]


@dataclass(frozen=True)
class DetectorOptions:
    """Everything but the backbone that a detector is built with. None is the detector's published value.

    See `bcd.spec.DetectorSpec`, whose fields these are; a detector leaves alone what it has no use for.
    """

    num_classes: int
    fpn_channels: int = 256
    stacked_convs: int = 4
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    reg_max: int = 16
    prior_scale: float | None = None
    anchors_per_octave: int | None = None
    anchor_ratios: tuple[float, ...] | None = None
    positive_iou: float | None = None
    negative_iou: float | None = None
    centre_sampling: float | None = None
    focal_alpha: float | None = None
    focal_gamma: float | None = None
    box_loss: BoxLoss | None = None
    variant: Variant = Variant()


def given(value: T | None, published: T) -> T:
    """A person's value, or the published one where there is none."""
    return published if value is None else value
