"""Backbones: each family in a file of its own. Adding one is a file here and a line in `bcd.spec.backbones.BACKBONES`.

A family's file has `make(name, *, width, strides, pretrained, **variant) -> Backbone`. Its `VARIANT` names the keys of
a detector's `variant` that it understands: what a foreign checkpoint fixes and a person would never set.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from bcd.models.backbones.base import Backbone
from bcd.spec.backbones import BACKBONES, backbone_entry, check_backbone

__all__ = ["BACKBONES", "VARIANT_KEYS", "Backbone", "build_backbone"]

# Keys of a detector's variant that concern its backbone; every other key concerns pyramid and head.
VARIANT_KEYS = frozenset({"style", "norm_eps", "activation", "top_conv"})


def build_backbone(
    name: str,
    *,
    width: int = 16,
    strides: tuple[int, ...] = (8, 16, 32),
    frozen_stages: int = -1,
    norm_eval: bool = False,
    pretrained: bool = False,
    variant: Mapping[str, Any] | None = None,
) -> Backbone:
    """A backbone with fresh or pretrained weights.

    Args:
        name: a key of `BACKBONES`, or "timm:NAME" for a network of the timm library.
        width: base width of the tiny backbone.
        strides: of the pyramid, in pixels; the tiny backbone gives maps at those up to 32, every other at 8, 16, 32.
        frozen_stages: freeze the stem and this many stages (-1: nothing).
        norm_eval: keep all BatchNorm statistics as they are in training.
        pretrained: start from ImageNet weights, downloaded on first use.
        variant: of `VARIANT_KEYS`: "style" ("pytorch", or "caffe": bottlenecks with their stride in the first 1x1
            convolution), "norm_eps" (of every BatchNorm), "activation" ("relu6" or "leaky_relu" of 0.1) and
            "top_conv" (MobileNetV2: the last map is that of the 1280-channel convolution).

    Raises:
        ValueError: unknown name, or a setting that means nothing for this backbone.
        RuntimeError: pretrained weights cannot be reached, or timm is not installed.
    """
    check_backbone(name, frozen_stages=frozen_stages, norm_eval=norm_eval, pretrained=pretrained)
    family = import_module(f"{__name__}.{backbone_entry(name).file}")
    variant = dict(variant or {})
    unknown = [key for key in variant if key not in family.VARIANT]
    if unknown:
        raise ValueError(f"backbone {name} has no {' or '.join(unknown)} to choose (variant)")
    backbone: Backbone = family.make(name, width=width, strides=strides, pretrained=pretrained, **variant)
    if norm_eval and not any("BatchNorm" in type(m).__name__ for m in backbone.modules()):
        raise ValueError(f"backbone {name} has no BatchNorm whose statistics could stay fixed; set norm_eval: false")
    backbone.fix(frozen_stages, norm_eval)
    return backbone
