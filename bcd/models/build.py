"""Build a detector by name. Adding one is a file here and a line in `bcd.spec.detectors.DETECTORS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from bcd.models.backbones import VARIANT_KEYS, build_backbone
from bcd.models.detector import Detector, DetectorInfo
from bcd.models.options import BoxLoss, DetectorOptions
from bcd.spec.detectors import DETECTORS as FAMILIES

DETECTORS: dict[str, type[Detector]] = {
    key: getattr(import_module(f"bcd.models.{key}"), family.name) for key, family in FAMILIES.items()
}


def build_detector(
    detector: str = "gfl",
    *,
    backbone: str = "resnet50",
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    width: int = 16,
    fpn_channels: int = 256,
    stacked_convs: int = 4,
    strides: Sequence[int] = (8, 16, 32, 64, 128),
    reg_max: int = 16,
    prior_scale: float | None = None,
    anchors_per_octave: int | None = None,
    anchor_ratios: Sequence[float] | None = None,
    positive_iou: float | None = None,
    negative_iou: float | None = None,
    centre_sampling: float | None = None,
    focal_alpha: float | None = None,
    focal_gamma: float | None = None,
    box_loss: BoxLoss | None = None,
    frozen_stages: int = -1,
    norm_eval: bool = False,
    pretrained: bool = False,
    variant: Mapping[str, Any] | None = None,
) -> Detector:
    """A detector with fresh weights (drawn from torch's global generator).

    Args:
        detector: head family: "gfl", "atss", "fcos" or "retinanet".
        backbone: a key of `bcd.models.backbones.BACKBONES`, or "timm:NAME".
        num_classes, class_names: give one of the two; without names the classes are called "0", "1", ...
        width: base width of the tiny backbone.
        fpn_channels: channels of pyramid and head.
        stacked_convs: 3x3 convolutions in each branch of the head.
        strides: of the pyramid levels, in pixels.
        reg_max: GFL's largest box distance in units of the stride.
        prior_scale to box_loss: see `bcd.spec.DetectorSpec`; None is the detector's published value.
        frozen_stages, norm_eval, pretrained: of the backbone, see `bcd.spec.DetectorSpec`.
        variant: in what a foreign checkpoint's detector differs from the published one: keys of
            `bcd.models.options.Variant`, and of the backbone (see `bcd.models.backbones.build_backbone`).

    Returns:
        A module whose `forward` takes normalised float images (B, 3, H, W) and returns `DenseOutputs`.

    Raises:
        ValueError: unknown detector, backbone or variant, or widths and strides that do not fit together.
    """
    if detector not in DETECTORS:
        raise ValueError(f"unknown detector {detector!r}; known: {', '.join(DETECTORS)}")
    if (num_classes is None) == (class_names is None):
        raise ValueError("give exactly one of num_classes and class_names")
    names = tuple(class_names) if class_names is not None else tuple(str(i) for i in range(num_classes or 0))
    if not names:
        raise ValueError("a detector needs at least one class")
    strides, variant = tuple(strides), dict(variant or {})
    make = DETECTORS[detector]
    choices: dict[str, Any] = {
        "fpn_channels": fpn_channels, "stacked_convs": stacked_convs, "strides": strides, "reg_max": reg_max,
        "prior_scale": prior_scale, "anchors_per_octave": anchors_per_octave,
        "anchor_ratios": None if anchor_ratios is None else tuple(anchor_ratios), "positive_iou": positive_iou,
        "negative_iou": negative_iou, "centre_sampling": centre_sampling, "focal_alpha": focal_alpha,
        "focal_gamma": focal_gamma, "box_loss": box_loss,
    }  # fmt: skip
    of_backbone = {key: value for key, value in variant.items() if key in VARIANT_KEYS}
    of_head = make.published.changed({key: value for key, value in variant.items() if key not in VARIANT_KEYS})
    fixed: dict[str, Any] = {"frozen_stages": frozen_stages, "norm_eval": norm_eval}
    body = build_backbone(backbone, width=width, strides=strides, pretrained=pretrained, variant=of_backbone, **fixed)
    if strides[: len(body.strides)] != body.strides:
        raise ValueError(
            f"backbone {backbone!r} gives strides {list(body.strides)}; strides {list(strides)} do not fit"
        )
    model = make(body, DetectorOptions(num_classes=len(names), variant=of_head, **choices))
    arguments = {"detector": detector, "backbone": backbone, "width": width, **choices, **fixed, "variant": variant}
    # As JSON gives them back: a saved detector must describe itself with the same values.
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    model.info = DetectorInfo(plain, names)
    return model
