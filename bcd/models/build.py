"""Build a detector by name. Adding a detector is one file and one line in `DETECTORS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bcd.models.backbones import BACKBONES
from bcd.models.detector import Detector, DetectorInfo
from bcd.models.gfl import GFL

DETECTORS: dict[str, Callable[..., Detector]] = {"gfl": GFL}


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
    prior_scale: float = 8.0,
    frozen_stages: int = -1,
    norm_eval: bool = False,
    pretrained: bool = False,
) -> Detector:
    """A detector with fresh weights (drawn from torch's global generator).

    Args:
        detector: head family, "gfl".
        backbone: "resnet18", "resnet34", "resnet50", "resnet101" or "tiny".
        num_classes, class_names: give one of the two; without names the classes are called "0", "1", ...
        width: base width of the tiny backbone.
        fpn_channels: channels of pyramid and head.
        stacked_convs: 3x3 convolutions in each branch of the head.
        strides: of the pyramid levels, in pixels.
        reg_max: largest box distance in units of the stride.
        prior_scale: side of the square prior in units of the stride, for label assignment.
        frozen_stages, norm_eval, pretrained: for ResNets, see `bcd.spec.DetectorSpec`.

    Returns:
        A module whose `forward` takes normalised float images (B, 3, H, W) and returns `DenseOutputs`.

    Raises:
        ValueError: unknown detector or backbone, or widths and strides that do not fit together.
    """
    if detector not in DETECTORS:
        raise ValueError(f"unknown detector {detector!r}; known: {', '.join(DETECTORS)}")
    if backbone not in BACKBONES:
        raise ValueError(f"unknown backbone {backbone!r}; known: {', '.join(BACKBONES)}")
    if (num_classes is None) == (class_names is None):
        raise ValueError("give exactly one of num_classes and class_names")
    names = tuple(class_names) if class_names is not None else tuple(str(i) for i in range(num_classes or 0))
    if not names:
        raise ValueError("a detector needs at least one class")
    strides = tuple(strides)
    options = {"frozen_stages": frozen_stages, "norm_eval": norm_eval, "pretrained": pretrained}
    body = BACKBONES[backbone](width=width, strides=strides, **options)
    if strides[: len(body.strides)] != body.strides:
        raise ValueError(
            f"backbone {backbone!r} gives strides {list(body.strides)}; strides {list(strides)} do not fit"
        )
    model = DETECTORS[detector](
        body,
        num_classes=len(names),
        fpn_channels=fpn_channels,
        stacked_convs=stacked_convs,
        strides=strides,
        reg_max=reg_max,
        prior_scale=prior_scale,
    )
    arguments = {
        "detector": detector, "backbone": backbone, "width": width, "fpn_channels": fpn_channels,
        "stacked_convs": stacked_convs, "strides": list(strides), "reg_max": reg_max, "prior_scale": prior_scale,
        "frozen_stages": frozen_stages, "norm_eval": norm_eval,
    }  # fmt: skip
    model.info = DetectorInfo(arguments, names)
    return model
