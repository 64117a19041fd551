"""Which backbones there are: one list for the spec and for the models, without torch.

Adding a backbone is a file in `bcd/models/backbones/` and a line in `BACKBONES`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

TIMM = re.compile(r"timm:[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class BackboneEntry:
    """Where a backbone's `make` is found, and which settings mean something for it.

    `file` is the module in `bcd/models/backbones/`; `batch_norm`: it has BatchNorm, so `norm_eval` means something;
    `stages`: its first stages can be frozen; `weights`: there are pretrained weights; `fixed_strides`: it gives maps
    at strides 8, 16 and 32 and at no others.
    """

    file: str
    batch_norm: bool = True
    stages: bool = True
    weights: bool = True
    fixed_strides: bool = True


BACKBONES: dict[str, BackboneEntry] = {
    "resnet18": BackboneEntry("resnet"),
    "resnet34": BackboneEntry("resnet"),
    "resnet50": BackboneEntry("resnet"),
    "resnet101": BackboneEntry("resnet"),
    "mobilenet_v2": BackboneEntry("mobilenet"),
    "mobilenet_v3_large": BackboneEntry("mobilenet"),
    "mobilenet_v3_small": BackboneEntry("mobilenet"),
    "convnext_tiny": BackboneEntry("convnext", batch_norm=False),
    "swin_t": BackboneEntry("swin", batch_norm=False),
    "tiny": BackboneEntry("tiny", batch_norm=False, stages=False, weights=False, fixed_strides=False),
}
# Whether a timm network has BatchNorm is known once it is built.
TIMM_ENTRY = BackboneEntry("timm_network", stages=False)


def backbone_entry(name: str) -> BackboneEntry:
    """The entry of a backbone. Raises ValueError, with the known names, for an unknown one."""
    if name in BACKBONES:
        return BACKBONES[name]
    if TIMM.fullmatch(name):
        return TIMM_ENTRY
    raise ValueError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}, and timm:NAME for one of timm's")


def check_backbone(name: str, *, frozen_stages: int = -1, norm_eval: bool = False, pretrained: bool = False) -> None:
    """Raises ValueError where a setting means nothing for a backbone, instead of leaving it without effect."""
    entry = backbone_entry(name)
    if frozen_stages >= 0 and not entry.stages:
        raise ValueError(f"backbone {name} has no stages that can be frozen; set frozen_stages: -1")
    if norm_eval and not entry.batch_norm:
        raise ValueError(f"backbone {name} has no BatchNorm whose statistics could stay fixed; set norm_eval: false")
    if pretrained and not entry.weights:
        raise ValueError(f"there are no pretrained weights for the {name} backbone; set pretrained: false")


def _known(name: str) -> str:
    backbone_entry(name)
    return name


BackboneName = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"anyOf": [{"enum": list(BACKBONES)}, {"type": "string", "pattern": f"^{TIMM.pattern}$"}]}),
]
