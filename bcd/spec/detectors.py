"""Which detectors there are: one list for the spec and for the models, without torch.

Adding a detector is a file in `bcd/models/` and a line in `DETECTORS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema


@dataclass(frozen=True)
class Family:
    """A detector: its class in `bcd/models/KEY.py`, and what its head offers.

    `prior_scale` is its published prior's side in strides; `options` are the fields of `DetectorSpec` that it reads
    and some other detector does not.
    """

    name: str
    distributions: bool
    centerness: bool
    prior_scale: float
    options: tuple[str, ...] = ()


_FOCAL = ("focal_alpha", "focal_gamma")

DETECTORS = {
    "gfl": Family("GFL", True, False, 8.0),
    "atss": Family("ATSS", False, True, 8.0, _FOCAL),
    "fcos": Family("FCOS", False, True, 8.0, (*_FOCAL, "centre_sampling")),
    "retinanet": Family(
        "RetinaNet",
        False,
        False,
        4.0,
        (*_FOCAL, "anchors_per_octave", "anchor_ratios", "positive_iou", "negative_iou"),
    ),
}


def readers(option: str) -> list[str]:
    """The detectors that read an option; none: all do."""
    return [key for key, family in DETECTORS.items() if option in family.options]


def _known(name: str) -> str:
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; known: {', '.join(DETECTORS)}")
    return name


DetectorName = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(DETECTORS)})]
