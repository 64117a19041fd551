"""torchvision's FCOS and RetinaNet (v1 and v2) on ResNet-50: the published COCO weights, or one's own.

torchvision counts the background as class 0, which no score belongs to, and keeps slots for COCO's unused ids: these
rows are left out, so that classes are the 80 that there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bcd.models.adapters.checkpoint import AdapterError, state_dict_of
from bcd.models.adapters.coco_names import COCO_80, UNUSED_IDS
from bcd.models.adapters.foreign import Foreign, Overrides, with_batch_counts
from bcd.models.adapters.mmdet_backbones import read_backbone
from bcd.models.detector import IMAGENET_MEAN, IMAGENET_STD

COCO_SLOTS = 91
_CLS, _REG = r"head\.classification_head\.", r"head\.regression_head\."
# Before its second version the pyramid had no ".0" and RetinaNet's towers were numbered with their activations.
_COMMON = (
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.(?:0\.)?(weight|bias)", r"fpn.laterals.\1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.(?:0\.)?(weight|bias)", r"fpn.outputs.\1.\2"),
    (_CLS + r"cls_logits\.(weight|bias)", r"head.cls.\1"),
    (_REG + r"bbox_reg\.(weight|bias)", r"head.reg.\1"),
)
_EXTRA = re.compile(r"backbone\.fpn\.extra_blocks\.p([67])\.(weight|bias)")
_FCOS_TOWER = re.compile(r"head\.(classification|regression)_head\.conv\.(\d+)\.(weight|bias)")
_RETINA_TOWER = re.compile(r"head\.(classification|regression)_head\.conv\.(\d+)\.([01])\.(weight|bias)")
_CENTERNESS = re.compile(_REG + r"bbox_ctrness\.(weight|bias)")


def recognise(state: Mapping[str, Any]) -> str | None:
    """The head family of a torchvision detector's state dict, or None."""
    if "head.classification_head.cls_logits.weight" not in state:
        return None
    return "fcos" if "head.regression_head.bbox_ctrness.weight" in state else "retinanet"


def read(content: Mapping[str, Any], overrides: Overrides = Overrides()) -> Foreign:
    """A torchvision detector's state dict as a detector of ours.

    Class names in `overrides` may leave the background out: for n names and n + 1 rows, row 0 is left out. With 91
    rows and no names they are COCO's 80.

    Raises:
        AdapterError: not FCOS or RetinaNet, another backbone than a ResNet, or parameters that no rule knows (all are
            listed). Missing ones are found by `Foreign.check`.
    """
    state, _ = state_dict_of(content)
    detector = recognise(state)
    if detector is None:
        raise AdapterError("this is no torchvision FCOS or RetinaNet")
    if overrides.detector not in (None, detector):
        raise AdapterError(f"this is a torchvision {detector}, not {overrides.detector}")
    for name in ("style", "bgr"):
        if getattr(overrides, name) not in (None, "pytorch", False):
            raise AdapterError(f"torchvision's detectors are RGB and of style pytorch; {name} cannot be changed")
    tensors = _rename(state, detector)
    needed = [n for n in ("fpn.laterals.2.weight", "fpn.outputs.3.weight", "head.reg.weight") if n not in tensors]
    if needed:
        raise AdapterError(f"this is no complete torchvision {detector}; missing (under our names): {needed}")
    channels, top = tensors["fpn.laterals.2.weight"].shape[:2]
    body = read_backbone(_backbone(state), top)
    norm = "head.cls_tower.0.gn.weight" in tensors
    anchors = tensors["head.reg.weight"].shape[0] // 4
    classes = tensors["head.cls.weight"].shape[0] // anchors
    assumed = []
    variant: dict[str, Any] = {
        "fpn_extra": "input" if tensors["fpn.outputs.3.weight"].shape[1] == top != channels else "output",
        "fpn_relu": True,
        "head_norm": "gn" if norm else "none",
        "dynamic_strides": True,
    }
    if norm and "head.cls_tower.0.conv.bias" in tensors:
        variant["head_bias"] = True
    if norm and channels < 256:
        raise AdapterError(f"its head has 32 groups of {channels // 32} channels; ours have at least 8")
    if detector == "fcos":
        variant |= {"centre_offset": 0.0, "box_code": "relu", "centerness_on": "reg", "score": "sqrt"}
        # No scale per level.
        levels = len({key.split(".")[2] for key in tensors if key.startswith("fpn.outputs.")})
        tensors |= {f"head.scales.{level}.scale": torch.tensor(1.0) for level in range(levels)}
    else:
        variant["round_anchors"] = True
        if anchors != 9:
            raise AdapterError(f"it has {anchors} anchors per location; torchvision's RetinaNet has 9")
    frozen = not any(key.endswith("num_batches_tracked") for key in state)
    if detector == "retinanet" and not norm and frozen and classes == COCO_SLOTS:
        variant["norm_eps"] = 0.0
        if "norm_eps" not in overrides.variant:
            assumed.append("eps 0 in BatchNorm, as of the published COCO weights")
    rows, names = _classes(classes, overrides.class_names, assumed)
    tensors = with_batch_counts({**body.tensors, **_take_rows(tensors, rows, anchors, classes)})
    arguments = {
        "detector": detector, "backbone": body.name, "fpn_channels": channels,
        "stacked_convs": len({key.split(".")[2] for key in tensors if key.startswith("head.cls_tower.")}),
        "strides": [8 * 2**i for i in range(len({k.split(".")[2] for k in tensors if k.startswith("fpn.outputs.")}))],
        **overrides.arguments, "variant": {**variant, **overrides.variant},
    }  # fmt: skip
    mean, std = overrides.mean or IMAGENET_MEAN, overrides.std or IMAGENET_STD
    return Foreign("torchvision", arguments, len(rows), names, tensors, mean, std, tuple(assumed))


def _rename(state: Mapping[str, Tensor], detector: str) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    unknown = []
    old_towers = detector == "retinanet" and "head.classification_head.conv.0.weight" in state
    for name, value in state.items():
        if name.startswith("backbone.body."):
            continue
        ours = next((re.sub(p, to, name) for p, to in _COMMON if re.fullmatch(p, name)), None)
        if found := _EXTRA.fullmatch(name):
            ours = f"fpn.outputs.{int(found[1]) - 3}.{found[2]}"
        elif (found := _CENTERNESS.fullmatch(name)) and detector == "fcos":
            ours = f"head.centerness.{found[1]}"
        elif detector == "fcos" and (found := _FCOS_TOWER.fullmatch(name)) and int(found[2]) % 3 < 2:
            ours = _tower(found[1], int(found[2]) // 3, int(found[2]) % 3 == 1, found[3])
        elif old_towers and (found := _FCOS_TOWER.fullmatch(name)) and int(found[2]) % 2 == 0:
            ours = _tower(found[1], int(found[2]) // 2, False, found[3])
        elif detector == "retinanet" and not old_towers and (found := _RETINA_TOWER.fullmatch(name)):
            ours = _tower(found[1], int(found[2]), found[3] == "1", found[4])
        if ours is None:
            unknown.append(name)
        else:
            out[ours] = value
    if unknown:
        raise AdapterError(f"{len(unknown)} parameters do not belong to a torchvision {detector}: {', '.join(unknown)}")
    return out


def _tower(branch: str, number: int, norm: bool, name: str) -> str:
    return f"head.{'cls' if branch == 'classification' else 'reg'}_tower.{number}.{'gn' if norm else 'conv'}.{name}"


def _backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone under MMDetection's names, which for ResNets are torchvision's too."""
    prefix = "backbone.body."
    return {f"backbone.{k.removeprefix(prefix)}": v for k, v in state.items() if k.startswith(prefix)}


def _classes(rows: int, names: tuple[str, ...] | None, assumed: list[str]) -> tuple[list[int], tuple[str, ...] | None]:
    """(rows of the class layer that are kept, their names)."""
    if names is None and rows == COCO_SLOTS:
        assumed.append("class names of COCO")
        return [i for i in range(1, rows) if i not in UNUSED_IDS], COCO_80
    if names is not None and len(names) == rows:
        return list(range(rows)), names
    if names is not None and len(names) == len(COCO_80) and rows == COCO_SLOTS:
        return [i for i in range(1, rows) if i not in UNUSED_IDS], names
    # Row 0 is the background, which torchvision never trains.
    return list(range(1, rows)), names


def _take_rows(tensors: Mapping[str, Tensor], rows: list[int], anchors: int, classes: int) -> dict[str, Tensor]:
    out = dict(tensors)
    for key in ("head.cls.weight", "head.cls.bias"):
        value = out[key]
        out[key] = value.reshape(anchors, classes, *value.shape[1:])[:, rows].flatten(0, 1).contiguous()
    return out
