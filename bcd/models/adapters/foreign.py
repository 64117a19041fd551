"""A foreign detector in our terms: how to build ours, and its parameters under our names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bcd.models.adapters.checkpoint import AdapterError
from bcd.models.build import build_detector
from bcd.models.detector import IMAGENET_MEAN, IMAGENET_STD, Detector, DetectorInfo

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Overrides:
    """What a person says about a foreign file, in place of what it says itself or leaves open.

    Args:
        detector: head family.
        class_names: in the order of the checkpoint's labels.
        style: of a ResNet, "pytorch" or "caffe".
        bgr: the model was trained on images whose channels are blue, green, red.
        mean, std: of the normalisation, in the order of the model's channels, for images of 0 to 255.
        arguments: further arguments of `bcd.build_detector` (prior_scale, strides, ...).
        variant: further keys of its `variant` (box_code, norm_eps, ...).
    """

    detector: str | None = None
    class_names: tuple[str, ...] | None = None
    style: str | None = None
    bgr: bool | None = None
    mean: Triple | None = None
    std: Triple | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    variant: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Foreign:
    """A foreign detector, read and renamed.

    `arguments` are those of `bcd.build_detector`; `class_names` is None where the file does not tell; `mean` and `std`
    are for RGB images of 0 to 255; `tensors` are under our names, for RGB; `assumed` says in words what the file leaves
    open and what was taken instead; `left_out` are its keys that are no part of the detector, with the reason.
    """

    source: str
    arguments: dict[str, Any]
    num_classes: int
    class_names: tuple[str, ...] | None
    tensors: dict[str, Tensor]
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    assumed: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raises AdapterError that lists every parameter that is missing, left over or of another shape."""
        with torch.device("meta"):
            expected = build_detector(**self.arguments, num_classes=self.num_classes).state_dict()
        found = self.tensors
        faults = [f"missing {key}" for key in expected if key not in found]
        faults += [f"unused {key}" for key in found if key not in expected]
        faults += [
            f"{key} has shape {list(found[key].shape)}, not {list(expected[key].shape)}"
            for key in expected
            if key in found and found[key].shape != expected[key].shape
        ]
        if faults:
            raise AdapterError(
                f"the file does not hold a complete {self.arguments['detector']} with {self.arguments['backbone']}, "
                f"{len(faults)} faults: {'; '.join(faults)}"
            )

    def build(self) -> Detector:
        """Our detector with these parameters, in evaluation mode, on the CPU.

        Raises:
            AdapterError: class names are unknown, or parameters are missing, left over or of another shape.
        """
        if self.class_names is None:
            raise AdapterError(
                f"the file does not name its {self.num_classes} classes: give them (--classes FILE, one name a line)"
            )
        if len(self.class_names) != self.num_classes:
            raise AdapterError(f"the file has {self.num_classes} classes, and {len(self.class_names)} names were given")
        if len(set(self.class_names)) != len(self.class_names):
            raise AdapterError("two classes have the same name")
        self.check()
        with torch.random.fork_rng(devices=[]):
            model = build_detector(**self.arguments, class_names=self.class_names)
        model.load_state_dict(self.tensors, strict=True)
        extra = {**self.extra, "source": {"framework": self.source, "assumed": list(self.assumed)}}
        model.info = DetectorInfo(model.info.arguments, self.class_names, self.mean, self.std, extra)
        return model.eval()


def with_batch_counts(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds BatchNorm's step counters, which frozen or old BatchNorm does not store and which evaluation never reads."""
    stems = [key.removesuffix("running_var") for key in tensors if key.endswith(".running_var")]
    counts = {f"{stem}num_batches_tracked": torch.tensor(0) for stem in stems}
    return {**counts, **tensors}
