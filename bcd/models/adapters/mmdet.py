"""MMDetection checkpoints (2.x and 3.x, and forks such as LD and BCKD) of GFL, ATSS, FCOS and RetinaNet.

Parameters are renamed one to one: a key that is missing or left over is an error that lists it. Depths, widths and
class counts come from shapes; normalisation, style and box code from the configuration that the checkpoint carries.
Where it carries none, the published configuration of the detector is assumed, and `Foreign.assumed` says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bcd.models.adapters.checkpoint import AdapterError, state_dict_of
from bcd.models.adapters.coco_names import COCO_80
from bcd.models.adapters.configs import find, parse_config
from bcd.models.adapters.foreign import Foreign, Overrides, Triple, with_batch_counts
from bcd.models.adapters.mmdet_backbones import read_backbone
from bcd.models.detector import IMAGENET_MEAN, IMAGENET_STD

_NECK = (
    (r"neck\.lateral_convs\.(\d+)\.conv\.(\w+)", r"fpn.laterals.\1.\2"),
    (r"neck\.fpn_convs\.(\d+)\.conv\.(\w+)", r"fpn.outputs.\1.\2"),
)
_TOWERS = (
    (r"bbox_head\.cls_convs\.(\d+)\.(conv|gn)\.(\w+)", r"head.cls_tower.\1.\2.\3"),
    (r"bbox_head\.reg_convs\.(\d+)\.(conv|gn)\.(\w+)", r"head.reg_tower.\1.\2.\3"),
)
_SCALES = ((r"bbox_head\.scales\.(\d+)\.scale", r"head.scales.\1.scale"),)


def _layers(cls: str, reg: str, centerness: str | None = None) -> tuple[tuple[str, str], ...]:
    names = {"cls": cls, "reg": reg, "centerness": centerness}
    return tuple((rf"bbox_head\.{theirs}\.(\w+)", rf"head.{ours}.\1") for ours, theirs in names.items() if theirs)


# The head's own parameters; the first rule is that of the class layer. FCOS had other names before 2.0.
_HEADS = {
    "gfl": (*_layers("gfl_cls", "gfl_reg"), *_SCALES),
    "atss": (*_layers("atss_cls", "atss_reg", "atss_centerness"), *_SCALES),
    "fcos": (
        *_layers("(?:conv_cls|fcos_cls)", "(?:conv_reg|fcos_reg)", "(?:conv_centerness|fcos_centerness)"),
        *_SCALES,
    ),
    "retinanet": _layers("retina_cls", "retina_reg"),
}
_MARKS = {"gfl": ("gfl_cls",), "atss": ("atss_cls",), "fcos": ("conv_centerness", "fcos_centerness"),
          "retinanet": ("retina_cls",)}  # fmt: skip
_HEAD_TYPES = {"GFLHead": "gfl", "LDHead": "gfl", "ATSSHead": "atss", "FCOSHead": "fcos", "RetinaHead": "retinanet"}
# Constants that MMDetection stores and we do not.
_CONSTANTS = re.compile(r"bbox_head\.integral\.project|data_preprocessor\..*")
# Caffe's models: channels blue, green, red, no scaling (MMDetection's published FCOS).
CAFFE_MEAN, CAFFE_STD = (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0)


def convert_state_dict(
    state_dict: Mapping[str, Any],
    detector: str = "gfl",
    num_classes: int | None = None,
    *,
    bgr: bool | None = None,
) -> dict[str, Tensor]:
    """MMDetection's state dict of a detector under our parameter names, ready for `load_state_dict(strict=True)`.

    Args:
        state_dict: parameters by MMDetection's names, or a checkpoint that holds them under "state_dict".
        detector: head family: "gfl", "atss", "fcos" or "retinanet".
        num_classes: number of classes that the checkpoint must have; checked when given.
        bgr: the model takes images whose channels are blue, green, red: the stem is turned round for ours. None: as
            the checkpoint's configuration says, and no where it carries none.

    Raises:
        ValueError: unknown detector, another number of classes, or parameters that are missing or that no rule knows
            (all are listed).
    """
    if detector not in _HEADS:
        raise ValueError(f"no rules for detector {detector!r}; known: {', '.join(_HEADS)}")
    try:
        state, around = state_dict_of(state_dict)
    except AdapterError:
        state, around = {}, {}
    state = _without_prefix(state)[0]
    if not any(f"bbox_head.{mark}.weight" in state for mark in _MARKS[detector]):
        wanted = " or ".join(f"bbox_head.{mark}.weight" for mark in _MARKS[detector])
        raise ValueError(f"this is no MMDetection {detector}: {wanted} is missing")
    if bgr is None:
        bgr = _Config.of(around).bgr or False
    foreign = read({"state_dict": state, **{k: around[k] for k in ("meta",) if k in around}},
                   Overrides(detector=detector, bgr=bgr))  # fmt: skip
    if num_classes is not None and foreign.num_classes != num_classes:
        raise ValueError(f"the checkpoint has {foreign.num_classes} classes, not {num_classes}")
    foreign.check()
    return foreign.tensors


def recognise(state: Mapping[str, Any]) -> str | None:
    """The head family of an MMDetection state dict, or None."""
    state = _without_prefix(state)[0]
    for detector, marks in _MARKS.items():
        if any(f"bbox_head.{mark}.weight" in state for mark in marks):
            return detector
    return None


def read(content: Mapping[str, Any], overrides: Overrides = Overrides()) -> Foreign:
    """An MMDetection checkpoint as a detector of ours.

    Args:
        content: the checkpoint as loaded: "state_dict" and "meta", or a bare state dict.
        overrides: what a person says; it takes precedence.

    Raises:
        AdapterError: not one of our four detectors, a backbone or pyramid that we do not have, or parameters that no
            rule knows (all are listed). Missing ones are found by `Foreign.check`.
    """
    full, around = state_dict_of(content)
    state, left_out = _without_prefix(full)
    config = _Config.of(around)
    detector = overrides.detector or recognise(state)
    if detector is None:
        raise AdapterError(f"its head is none of ours ({', '.join(_HEADS)}); its keys begin with {_heads(state)}")
    if detector not in _HEADS:
        raise AdapterError(f"no rules for detector {detector!r}; known: {', '.join(_HEADS)}")
    tensors, left = _rename(state, detector)
    left_out = {**left_out, **left}
    shapes = _Shapes.of(tensors, detector)
    body = read_backbone(state, shapes.top)
    tensors, left_out = with_batch_counts({**body.tensors, **tensors}), {**left_out, **body.left_out}

    assumed: list[str] = []
    bgr, mean, std = _normalisation(config, detector, overrides, assumed)
    if bgr:
        tensors[body.stem] = tensors[body.stem].flip(1).contiguous()
        mean, std = (mean[2], mean[1], mean[0]), (std[2], std[1], std[0])
    variant = {**shapes.variant, **config.variant(detector), **body.variant}
    if body.name.startswith("resnet"):
        style = overrides.style or config.backbone.get("style")
        if style is None:
            style = "caffe" if detector == "fcos" and bgr else "pytorch"
            if body.name in ("resnet50", "resnet101"):
                assumed.append(f"style {style}")
        if style == "caffe":
            variant["style"] = "caffe"
    elif overrides.style is not None:
        raise AdapterError(f"style is a matter of ResNets, and the backbone is {body.name}")
    activation = (config.backbone.get("act_cfg") or {}).get("type")
    if body.name == "mobilenet_v2" and activation == "LeakyReLU":
        if config.backbone["act_cfg"].get("negative_slope") != 0.1:
            raise AdapterError("its MobileNetV2 has LeakyReLU of another slope than 0.1, which we do not have")
        variant["activation"] = "leaky_relu"
    if not config.head and detector == "fcos":
        assumed.append("box code exp in pixels and centerness from the class tower (norm_on_bbox and centerness_on_reg "
                       "are false)")  # fmt: skip
    names = overrides.class_names or config.class_names
    if names is None and shapes.classes == len(COCO_80):
        names = COCO_80
        assumed.append("class names of COCO")
    strides = config.strides or [8 * 2**i for i in range(shapes.levels)]
    if len(strides) != shapes.levels:
        raise AdapterError(f"its pyramid has {shapes.levels} levels and its configuration {len(strides)} strides")
    arguments: dict[str, Any] = {
        "detector": detector, "backbone": body.name, "fpn_channels": shapes.channels,
        "stacked_convs": shapes.stacked, "strides": strides,
        **({} if shapes.reg_max is None else {"reg_max": shapes.reg_max}),
        **config.anchors(detector, shapes.anchors), **overrides.arguments,
        "variant": {**variant, **overrides.variant},
    }  # fmt: skip
    extra = {"test": config.test} if config.test else {}
    return Foreign("mmdetection", arguments, shapes.classes, names, tensors, mean, std, tuple(assumed), left_out, extra)


# ------------------------------------------------------------------------------------------------- parameters


def _without_prefix(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The detector's own parameters, and what else the file holds: another model beside it, or averaged copies."""
    out = {str(key): value for key, value in state.items()}
    if out and all(key.startswith("module.") for key in out):
        out = {key.removeprefix("module."): value for key, value in out.items()}
    left: dict[str, str] = {}
    if not any(key.startswith("bbox_head.") for key in out):
        for prefix in ("student.", "architecture.", "detector.", "model."):
            if any(key.startswith(f"{prefix}bbox_head.") for key in out):
                left = {key: f"beside the {prefix[:-1]}" for key in out if not key.startswith(prefix)}
                out = {key.removeprefix(prefix): value for key, value in out.items() if key.startswith(prefix)}
                break
    # The averaging hook of 2.x keeps its second copy under "ema_" and the name with underscores.
    copies = {f"ema_{key.replace('.', '_')}" for key in out}
    left |= {key: "second copy of averaged weights (EMA)" for key in out if key in copies}
    teacher = re.compile(r"teacher(_model|_detector)?\.")
    left |= {key: "the teacher of a distillation" for key in out if teacher.match(key)}
    return {key: value for key, value in out.items() if key not in left}, left


def _rename(state: Mapping[str, Tensor], detector: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Pyramid and head under our names; constants are left out. The backbone has rules of its own."""
    out: dict[str, Tensor] = {}
    unknown, left = [], {}
    for name, value in state.items():
        if name.startswith("backbone."):
            continue
        ours = next(
            (re.sub(p, to, name) for p, to in (*_NECK, *_TOWERS, *_HEADS[detector]) if re.fullmatch(p, name)), None
        )
        if ours is not None:
            out[ours] = value
        elif _CONSTANTS.fullmatch(name):
            left[name] = "a constant"
        else:
            unknown.append(name)
    if unknown:
        raise AdapterError(
            f"{len(unknown)} parameters do not belong to an MMDetection {detector}: {', '.join(unknown)}"
        )
    return out, left


def _heads(state: Mapping[str, Any]) -> str:
    return ", ".join(sorted({".".join(key.split(".")[:2]) for key in state})[:8]) or "nothing"


@dataclass(frozen=True)
class _Shapes:
    """What shapes tell: levels and width of the pyramid, width of the backbone's last map, depth of the towers,
    anchors per location, classes, and parts of the variant."""

    levels: int
    channels: int
    top: int
    stacked: int
    anchors: int
    classes: int
    reg_max: int | None
    variant: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], detector: str) -> _Shapes:
        """Raises AdapterError for pyramids and heads that ours cannot be."""
        laterals, outputs = _count(tensors, "fpn.laterals."), _count(tensors, "fpn.outputs.")
        needed = ["head.cls.weight", "head.reg.weight", *(f"fpn.laterals.{i}.weight" for i in range(3))]
        needed += [f"fpn.outputs.{i}.weight" for i in range(3)]
        missing = [name for name in needed if name not in tensors]
        if missing:
            raise AdapterError(f"this is no complete MMDetection {detector}, {len(missing)} parameters are missing "
                               f"(under our names): {', '.join(missing)}")  # fmt: skip
        if laterals != 3:
            raise AdapterError(
                f"its pyramid starts from {laterals} backbone maps; ours start from strides 8, 16 and 32"
            )
        channels, top = tensors["fpn.laterals.2.weight"].shape[:2]
        stacked = _count(tensors, "head.cls_tower.")
        variant: dict[str, Any] = {}
        if outputs > 3:
            inside = tensors["fpn.outputs.3.weight"].shape[1]
            variant["fpn_extra"] = "input" if inside == top != channels else "output"
        norm = "head.cls_tower.0.gn.weight" in tensors
        if stacked:
            variant["head_norm"] = "gn" if norm else "none"
            if norm and "head.cls_tower.0.conv.bias" in tensors:
                variant["head_bias"] = True
            if norm and channels < 256:
                raise AdapterError(f"its head has 32 groups of {channels // 32} channels; ours have at least 8")
        reg = tensors["head.reg.weight"].shape[0]
        anchors = reg // 4 if detector == "retinanet" else 1
        classes = tensors["head.cls.weight"].shape[0]
        if reg % 4 or classes % max(anchors, 1):
            raise AdapterError(f"its box layer has {reg} and its class layer {classes} channels, which do not fit")
        reg_max = reg // 4 - 1 if detector == "gfl" else None
        return cls(outputs, channels, top, stacked, anchors, classes // anchors, reg_max, variant)


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in tensors if key.startswith(prefix)})


# ---------------------------------------------------------------------------------------------- configuration


@dataclass(frozen=True)
class _Config:
    """What the checkpoint's configuration and metadata say; everything is empty where it carries none."""

    all: Mapping[str, Any]
    backbone: Mapping[str, Any]
    neck: Mapping[str, Any]
    head: Mapping[str, Any]
    test: Mapping[str, Any]
    class_names: tuple[str, ...] | None

    @classmethod
    def of(cls, around: Mapping[str, Any]) -> _Config:
        meta = around.get("meta")
        meta = meta if isinstance(meta, Mapping) else {}
        text = next((meta[key] for key in ("cfg", "config") if isinstance(meta.get(key), str)), "")
        config = parse_config(text)
        model = _part(config, "model")
        test = _part(model, "test_cfg") or _part(config, "test_cfg")
        return cls(
            config, _part(model, "backbone"), _part(model, "neck"), _part(model, "bbox_head"), test, _names(meta)
        )

    @property
    def preprocessor(self) -> Mapping[str, Any]:
        """What says mean and std: 3.x's data preprocessor or 2.x's normalisation."""
        for source in (_part(_part(self.all, "model"), "data_preprocessor"), _part(self.all, "img_norm_cfg")):
            if source.get("mean") is not None:
                return source
        return next((n for n in find(self.all, ("Normalize",)) if n.get("mean") is not None), {})

    @property
    def bgr(self) -> bool | None:
        """Whether the model takes blue, green, red; None where the configuration does not tell."""
        source = self.preprocessor
        rgb = source.get("bgr_to_rgb", source.get("to_rgb"))
        return None if not source else not rgb

    @property
    def strides(self) -> list[int] | None:
        anchors = _part(self.head, "anchor_generator")
        found = anchors.get("strides") or self.head.get("strides")
        flat = [s[0] if isinstance(s, list) else s for s in found] if isinstance(found, list) else []
        return [int(s) for s in flat] or None

    def variant(self, detector: str) -> dict[str, Any]:
        """Raises AdapterError for configurations that ours cannot be."""
        for part, kinds in ((self.neck, ("FPN",)), (self.head, tuple(_HEAD_TYPES))):
            if part and part.get("type") not in kinds:
                raise AdapterError(f"its configuration has a {part.get('type')}; we read {', '.join(kinds)}")
        if self.head and _HEAD_TYPES[self.head["type"]] != detector:
            raise AdapterError(f"its configuration has a {self.head['type']}, which is no {detector}")
        out: dict[str, Any] = {}
        if self.neck:
            if self.neck.get("add_extra_convs") == "on_lateral":
                raise AdapterError("its pyramid's extra levels come from a lateral, which we do not have")
            out["fpn_relu"] = bool(self.neck.get("relu_before_extra_convs", False))
        if detector == "fcos" and self.head:
            out["box_code"] = "relu" if self.head.get("norm_on_bbox") else "exp"
            out["centerness_on"] = "reg" if self.head.get("centerness_on_reg") else "cls"
        coder = _part(self.head, "bbox_coder")
        if detector in ("atss", "retinanet") and coder:
            if coder.get("type") != "DeltaXYWHBBoxCoder":
                raise AdapterError(f"its box code is {coder.get('type')}, which we do not have")
            for ours, theirs in (("box_means", "target_means"), ("box_stds", "target_stds")):
                if coder.get(theirs) is not None:
                    out[ours] = [float(v) for v in coder[theirs]]
        offset = _part(self.head, "anchor_generator").get("center_offset")
        if offset:
            out["centre_offset"] = float(offset)
        return out

    def anchors(self, detector: str, count: int) -> dict[str, Any]:
        """Arguments of anchors. Raises AdapterError where they are none of ours."""
        generator = _part(self.head, "anchor_generator")
        if detector == "fcos" or not generator:
            if detector == "retinanet" and count != 9:
                raise AdapterError(f"it has {count} anchors per location and no configuration that says which")
            return {}
        scales, base = generator.get("scales"), generator.get("octave_base_scale")
        per_octave = generator.get("scales_per_octave", 1)
        if base is None and isinstance(scales, list) and len(scales) == 1:
            base, per_octave = scales[0], 1
        ratios = generator.get("ratios")
        if base is None or not isinstance(ratios, list) or per_octave * len(ratios) != count:
            raise AdapterError("its anchors are not those of octaves and ratios; give prior_scale and the like")
        if detector != "retinanet":
            return {"prior_scale": float(base)}
        return {
            "prior_scale": float(base), "anchors_per_octave": per_octave, "anchor_ratios": [float(r) for r in ratios]
        }  # fmt: skip


def _part(config: Any, key: str) -> Mapping[str, Any]:
    value = config.get(key) if isinstance(config, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _names(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names: `CLASSES` in 2.x, `dataset_meta` in 3.x (in its first releases with a capital key)."""
    dataset = _part(meta, "dataset_meta")
    for found in (dataset.get("classes"), dataset.get("CLASSES"), meta.get("CLASSES"), meta.get("classes")):
        if isinstance(found, str):
            return (found,)
        if isinstance(found, list | tuple) and found and all(isinstance(name, str) for name in found):
            return tuple(found)
    return None


def _normalisation(
    config: _Config, detector: str, overrides: Overrides, assumed: list[str]
) -> tuple[bool, Triple, Triple]:
    """(channels are blue, green, red; mean; std) in the order of the model's channels."""
    source = config.preprocessor
    published_caffe = detector == "fcos" and (overrides.style or config.backbone.get("style", "caffe")) == "caffe"
    bgr = config.bgr if overrides.bgr is None else overrides.bgr
    if bgr is None:
        bgr = published_caffe
        assumed.append(f"channels {'BGR' if bgr else 'RGB'}")
    mean, std = overrides.mean or _triple(source.get("mean")), overrides.std or _triple(source.get("std"))
    if mean is None or std is None:
        caffe = bgr and not source
        mean, std = mean or (CAFFE_MEAN if caffe else IMAGENET_MEAN), std or (CAFFE_STD if caffe else IMAGENET_STD)
        assumed.append(f"mean {_listed(mean)} and std {_listed(std)}")
    return bgr, mean, std


def _triple(value: Any) -> Triple | None:
    if isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int | float) for v in value):
        return float(value[0]), float(value[1]), float(value[2])
    return None


def _listed(values: Triple) -> str:
    return ", ".join(f"{v:g}" for v in values)
